"""A job's result as a readable table: rates with their interval, durations and counts with their units."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ResultRow:
    """`kind` tells the template how to show the value: rate, share, seconds, count, json; the rest as it is."""

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
    "responses_per_s": "Responses per second",
    "mean_margin": "Mean margin",
    "n_response_cut": "Responses cut",
    "n_scored": "Responses scored",
    "n_left_out": "Pairs left out",
}
#: The order people look for things in; the database does not keep that of the job's result.
FIRST = (
    *("accuracy", "ended", "n_pairs", "mean_margin", "n_zero_margin", "n_tie", "n_unscored"),
    *("validation_best", "validation_final", "n_train", "n_validation", "n_left_out", "n_steps", "kept_step"),
    *("n_scored", "n_truncated", "n_response_cut", "n_tokens", "seconds", "training_s", "pairs_per_s"),
    *("responses_per_s", "peak_rss_mib", "n_parameters", "dtype"),
)
#: Shown elsewhere on the page, or only of use to a machine.
ELSEWHERE = frozenset({"checkpoint", "versions", "hardware", "environment", "slices", "data_sha256"})


def result_table(result: dict[str, Any]) -> list[ResultRow]:
    """One row for each figure; nested results one level deep, the rest as JSON."""
    rows: list[ResultRow] = []
    for name, value in in_order(result):
        is_repeated = name == "validation_final" and value == result.get("validation_best")
        if name in ELSEWHERE or is_repeated or value in ({}, []):
            continue
        if isinstance(value, dict) and not is_rate(value) and len(value) <= 12:
            rows += [result_row(f"{name}.{inner}", part) for inner, part in in_order(value)]
        else:
            rows.append(result_row(name, value))
    return rows


def in_order(result: dict[str, Any]) -> list[tuple[str, Any]]:
    """Known names first, others by name; what is nested after what is plain."""
    place = {name: index for index, name in enumerate(FIRST)}
    return sorted(
        result.items(),
        key=lambda item: (place.get(item[0], len(FIRST)), isinstance(item[1], dict | list), item[0]),
    )


def result_row(name: str, value: Any) -> ResultRow:
    own = name.rsplit(".", 1)[-1]
    label = LABELS.get(own) or own.removeprefix("n_").removesuffix("_s").replace("_", " ").capitalize()
    if "." in name:
        label = f"{name.split('.', maxsplit=1)[0].replace('_', ' ').capitalize()}: {label[0].lower()}{label[1:]}"
    kind = kind_of(own, value)
    return ResultRow(name, label, kind, f"{value:.4g}" if kind == "number" else value)


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
