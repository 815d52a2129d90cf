"""A job's result as a readable table: rates with their interval, durations and counts with their units."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ResultRow:
    """`kind` tells the template how to show the value: rate, share, seconds, count, number, text, json."""

    name: str
    label: str
    kind: str
    value: Any


LABELS = {
    "n_pairs": "Pairs",
    "n_train": "Pairs trained on",
    "n_validation": "Pairs held out",
    "n_truncated": "Texts truncated",
    "n_zero_margin": "Zero margins",
    "n_tie": "Ties (left out)",
    "n_unscored": "Not scored",
    "n_steps": "Steps",
    "peak_rss_mib": "Peak memory (MiB)",
    "pairs_per_s": "Pairs per second",
    "mean_margin": "Mean margin",
}
#: Shown elsewhere on the page, or only of use to a machine.
ELSEWHERE = frozenset({"checkpoint", "versions", "hardware", "environment", "slices"})


def result_table(result: dict[str, Any]) -> list[ResultRow]:
    """Rows in the order of the job's result; nested results one level deep, the rest as JSON."""
    rows: list[ResultRow] = []
    for name, value in result.items():
        if name in ELSEWHERE:
            continue
        if isinstance(value, dict) and not is_rate(value) and len(value) <= 12:
            rows += [result_row(f"{name}.{inner}", part) for inner, part in value.items()]
        else:
            rows.append(result_row(name, value))
    return rows


def result_row(name: str, value: Any) -> ResultRow:
    own = name.rsplit(".", 1)[-1]
    label = LABELS.get(own) or own.removeprefix("n_").removesuffix("_s").replace("_", " ").capitalize()
    if "." in name:
        label = f"{name.split('.', maxsplit=1)[0].replace('_', ' ').capitalize()}: {label[0].lower()}{label[1:]}"
    return ResultRow(name, label, kind_of(own, value), value)


def is_rate(value: Any) -> bool:
    return isinstance(value, dict) and {"value", "low", "high", "n"} <= set(value)


def kind_of(name: str, value: Any) -> str:
    if is_rate(value):
        return "rate"
    if isinstance(value, bool) or value is None:
        return "text"
    if isinstance(value, int | float):
        if name == "seconds" or (name.endswith("_s") and not name.endswith("per_s")):
            return "seconds"
        if name in {"accuracy", "low", "high"} or name.endswith("_share"):
            return "share"
        return "count" if isinstance(value, int) else "number"
    return "json" if isinstance(value, dict | list) else "text"
