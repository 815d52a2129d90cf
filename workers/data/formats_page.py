"""docs/formats.md, made from the registries: `python -m workers.data.formats_page > docs/formats.md`."""

from __future__ import annotations

import inspect
import json
import sys

from workers.data.exporters import EXPORTS
from workers.data.formats import FORMATS

START = """# Formats

This page is made from the code (`python -m workers.data.formats_page`); a test fails when it is stale.

## Files that can be imported

JSON Lines, one JSON array of objects, CSV, TSV (also with semicolons) and Parquet, each also gzipped. The type is
told by content, not by name. Text is kept byte for byte. A row that cannot be kept is reported with its line and
the reason, and the others are imported: rows over 16 MiB, JSON that does not parse, text that is not UTF-8, NUL
characters and halves of surrogate pairs (PostgreSQL cannot store them), NaN and infinity (JSON does not have them),
binary values, a wrong number of columns.

Duplicates are found by a hash of the prompt, the set of responses, the known verdicts and, where a row with a verdict
names one, the rater (`rater`, `annotator`, `evaluator`, `worker`, `labeler`, each also with `_id`, or `user_id`): two
raters who agree are two rows. The order of the responses, ids, model names and other metadata do not count.

## Import formats

`auto` takes the format that most of the first 50 rows fit and says which. Columns a format does not use become
metadata of the example. A system text may stand in `system` or `system_prompt`. Preferences between two equal
texts, empty responses (a single space is a response) and rows without a prompt are refused.
"""


def page() -> str:
    """The whole page."""
    parts = [START]
    for name, entry in FORMATS.items():
        text = inspect.cleandoc(entry.__doc__ or "").partition("\n\n{")[0]
        example = json.dumps(entry.example, ensure_ascii=False, indent=1)
        parts.append(f"### `{name}`: {entry.title}\n\n{text}\n\nColumns: {entry.columns}.\n\n```json\n{example}\n```\n")
    parts.append(
        "## Export layouts\n\nEach as JSON Lines and as Parquet, with the same rows, and with a dataset card.\n"
    )
    for name, layout in EXPORTS.items():
        text = inspect.cleandoc(layout.__doc__ or "")
        rows = "\n".join(f"| `{column}` | {meaning} |" for column, meaning in layout.columns.items())
        label = name.replace("_", "-")
        parts.append(f"### `{label}`: {layout.title}\n\n{text}\n\n| column | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
