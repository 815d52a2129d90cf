"""The dataset card that goes with an export: README.md with front matter that `datasets` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.data.exporters import Export


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card states of a snapshot. Dates are texts, so that the same snapshot always gives the same card."""

    title: str
    snapshot_uid: str
    sha256: str
    aggregation: str
    created_at: str
    files: Sequence[str]
    tally: Mapping[str, int]
    description: str = ""
    licence: str = "unknown"
    filters: Mapping[str, object] = field(default_factory=dict)


def dataset_card(export: Export, facts: CardFacts) -> str:
    """README.md for a folder that holds the exported files; `datasets.load_dataset(folder)` finds them by it."""
    label = export.name.replace("_", "-")
    lines = [
        "---",
        f"pretty_name: {_quoted(facts.title)}",
        f"license: {_quoted(facts.licence)}",
        "tags:",
        "- preference",
        f"- {label}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path:",
        *(f"    - {_quoted(name)}" for name in facts.files),
        "---",
        "",
        f"# {facts.title}",
        "",
        *([facts.description, ""] if facts.description else []),
        f"Human preferences exported from Steelyard in the layout `{label}` ({export.title}).",
        "",
        "| | |",
        "|---|---|",
        f"| snapshot | {facts.snapshot_uid} |",
        f"| sha256 of the snapshot | `{facts.sha256}` |",
        f"| taken | {facts.created_at} |",
        f"| aggregation | {facts.aggregation} |",
        f"| filter | `{json.dumps(dict(facts.filters), ensure_ascii=False, sort_keys=True)}` |",
        *(f"| {name.replace('_', ' ')} | {count} |" for name, count in sorted(facts.tally.items())),
        "",
        "## Columns",
        "",
        "| column | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in export.columns.items()),
        "",
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'data = load_dataset("path/to/this/folder", split="train")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A JSON string is a YAML string."""
    return json.dumps(text, ensure_ascii=False)
