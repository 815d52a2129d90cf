"""A job's result as readable tables: rates with their interval, durations and counts with their units, by subject."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ResultRow:
    """`kind` tells the template how to show the value: rate, share, seconds, count, json; the rest as it is."""

    name: str
    label: str
    kind: str
    value: Any


@dataclass(frozen=True)
class ResultGroup:
    """Rows of one subject."""

    title: str
    rows: list[ResultRow]


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
    "n_seeds": "Seeds",
    "seconds": "Time",
    "ece": "Calibration error (ECE)",
    "constant": "Constant to add to what it gives",
    "probe_difference": "Largest difference of a probe's reward",
}
#: Subjects in the order people look for them, with the names that belong there, in their order.
#: The database keeps no order of a job's result.
GROUPS: dict[str, tuple[str, ...]] = {
    "Accuracy": ("accuracy", "mean_margin", "n_zero_margin"),
    "Validation": ("ended", "validation_best", "validation_final", "kept_step", "n_steps"),
    "Data": (
        *("n_pairs", "n_tie", "n_unscored", "n_train", "n_validation", "n_left_out", "left_out", "n_scored"),
        *("n_truncated", "n_response_cut", "n_tokens"),
    ),
    "Speed": ("seconds", "training_s", "pairs_per_s", "responses_per_s", "peak_rss_mib"),
    "Model": ("n_parameters", "dtype"),
}
REST = "Other"
#: Shown elsewhere on the page, or only of use to a machine.
ELSEWHERE = frozenset(
    {
        *("artifact", "reward_model"),
        *("checkpoint", "versions", "hardware", "environment", "slices", "calibration", "rewards"),
        *(
            "encoded_sha256",
            "data_sha256",
            "prompts_sha256",
            "table",
            "strengths",
            "strength_groups",
            "u_shape",
            "groups",
            "suspects",
        ),
    }
)
#: Figures that say something only where they are not zero.
NOTHING_AT_ZERO = frozenset({"constant"})
#: What the token ids and targets are called by that a training read; the second in runs of before.
ENCODED = ("encoded_sha256", "data_sha256")
#: What the page of a study shows, with the words and the bounds that these figures need.
OF_A_STUDY = frozenset({"arms", "runs", "means", "differences", "marginals", "by_source"})
#: Nested results whose parts belong to different subjects.
OPENED = frozenset({"scoring"})


def result_groups(result: dict[str, Any]) -> list[ResultGroup]:
    """Figures by subject; nested results one level deep, what is deeper as JSON."""
    rows: dict[str, list[tuple[tuple[int, str], ResultRow]]] = {}
    for name, value in flat(result):
        is_repeated = name == "validation_final" and value == result.get("validation_best")
        is_nothing = value in ({}, [], None) or (name in NOTHING_AT_ZERO and value == 0)
        if name in ELSEWHERE or is_repeated or is_nothing:
            continue
        group, place = place_of(name)
        rows.setdefault(group, []).extend(((place, row.name), row) for row in result_rows(name, value))
    return [
        ResultGroup(title, [row for _, row in sorted(rows[title], key=lambda item: item[0])])
        for title in (*GROUPS, REST)
        if title in rows
    ]


def flat(result: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is nested in OPENED beside the rest; a name that is there already stays as it is."""
    opened = [item for name in OPENED if isinstance(part := result.get(name), dict) for item in part.items()]
    return [*((n, v) for n, v in result.items() if n not in OPENED), *((n, v) for n, v in opened if n not in result)]


def place_of(name: str) -> tuple[str, int]:
    """Subject of a figure and its place there."""
    for title, names in GROUPS.items():
        if name in names:
            return title, names.index(name)
    for title, words in (("Speed", ("_per_s", "_s", "seconds")), ("Data", ("truncated", "left_out", "pairs"))):
        if name.endswith(words):
            return title, len(GROUPS[title])
    return ("Validation", len(GROUPS["Validation"])) if name.startswith("validation") else (REST, 0)


def result_rows(name: str, value: Any) -> list[ResultRow]:
    if (
        isinstance(value, dict)
        and not is_rate(value)
        and len(value) <= (12 if has_nested(list(value.values())) else 60)
    ):
        rows = [result_row(f"{name}.{inner}", part) for inner, part in in_order(value) if part not in ({}, [], None)]
        return [counted(row, value) for row in rows]
    return [result_row(name, value)]


def counted(row: ResultRow, value: dict[str, Any]) -> ResultRow:
    """n_helpfulness beside mse_helpfulness is a number of ratings, not one of them."""
    own = row.name.rsplit(".", 1)[-1]
    if not own.startswith("n_") or f"mse_{own[2:]}" not in value:
        return row
    return replace(row, label=f"{row.label.partition(':')[0]}: n {own[2:].replace('_', ' ')}")


def in_order(part: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rates first, then by name."""
    return sorted(part.items(), key=lambda item: (not is_rate(item[1]), item[0]))


def result_row(name: str, value: Any) -> ResultRow:
    own = name.rsplit(".", 1)[-1]
    label = LABELS.get(own) or own.removeprefix("n_").removesuffix("_s").replace("_", " ").capitalize()
    if "." in name:
        label = f"{name.split('.', maxsplit=1)[0].replace('_', ' ').capitalize()}: {label[0].lower()}{label[1:]}"
    kind = kind_of(own, value)
    return ResultRow(name, label, kind, rounded(value) if kind in ("number", "text") else value)


def rounded(value: Any) -> Any:
    """Four figures of a number; whole numbers, texts and durations as they are, lists part by part."""
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return f"{value:.4g}" if isinstance(value, float) else value


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
    return "json" if isinstance(value, dict) or (isinstance(value, list) and has_nested(value)) else "text"


def has_nested(values: list[Any]) -> bool:
    return any(isinstance(value, dict | list) for value in values)
