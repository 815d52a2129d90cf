"""docs/settings.md, made from the registries: `python -m workers.settings_page > docs/settings.md`."""

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from workers.described import settings_of
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES

START = """# Settings

This page is made from the code (`python -m workers.settings_page`); a test fails when it is stale. The same is printed
by `manage.py settings NAME`, and answered as JSON schema by `GET /api/v1/settings/`.

Where it goes: the settings of a run into `spec`, of a family into `config` of a reward model, of an objective into
`objective_config` of a training. What is left out takes its default; an unknown key is an error. Datasets, snapshots,
reward models and checkpoints are named by their uid, which stands in the address of their page. A source is
`{"dataset": UID}` or `{"snapshot": UID}`.
"""


def entries() -> Iterator[tuple[str, str, Any, Any]]:
    """(heading, name, entry, model) of everything that takes settings."""
    for name, job in JOBS.items():
        yield "Runs", name, job, job.Spec
    for name, family in FAMILIES.items():
        yield "Families", name, family, family.Config
    for name, objective in OBJECTIVES.items():
        yield "Objectives", name, objective, objective.Config


def page() -> str:
    """The whole page."""
    parts, last = [START], ""
    for heading, name, entry, model in entries():
        if heading != last:
            parts.append(f"## {heading}\n")
            last = heading
        about = inspect.cleandoc(entry.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        link = "" if heading == "Runs" else f" More in [{name}](methods/{name}.md)."
        parts.append(f"### {name}\n\n{about}{link}\n\n{table(model)}")
    return "\n".join(parts)


def table(model: Any) -> str:
    """The settings of a model as a table of Markdown."""
    rows = [[f"`{s.name}`", s.kind, f"`{s.default}`" if s.default else "", s.meaning] for s in settings_of(model)]
    if not rows:
        return "No settings.\n"
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(["| setting | takes | default | |", "|---|---|---|---|", *(f"| {line} |" for line in lines), ""])


if __name__ == "__main__":
    sys.stdout.write(page())
