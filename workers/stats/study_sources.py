"""What trainings under several seeds say of each source apart: paired differences in accuracy and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workers.stats.student import Mean, mean_interval, paired_difference

FIGURES = {"accuracy": "value", "ece": "ece"}


def source_differences(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """{source: {"accuracy" | "ece": {"means": by arm, "differences": by arm from the first, with an answer}}}.

    rows: {"arm", "seed", "by_source": {source: {"value", "ece"}}}, one a training; empty where no training tells
    sources apart. A lower ECE is better; an interval that holds 0 is no difference shown.
    """
    sources = sorted({source for row in rows for source in row.get("by_source", ())})
    return {
        source: {figure: _compared(rows, names, source, key, figure) for figure, key in FIGURES.items()}
        for source in sources
    }


def _compared(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], source: str, key: str, figure: str
) -> dict[str, Any]:
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for row in rows:
        value = row.get("by_source", {}).get(source, {}).get(key)
        if value is not None and not math.isnan(value):
            found[row["arm"]][row["seed"]] = float(value)
    first, differences = found[names[0]], {}
    for name in names[1:]:
        seeds = sorted(first.keys() & found[name].keys())
        if seeds:
            mean = paired_difference([found[name][s] for s in seeds], [first[s] for s in seeds])
            differences[name] = {**mean.as_json(), "answer": _in_words(mean, is_lower_better=figure == "ece")}
    means = {name: mean_interval(list(values.values())).as_json() for name, values in found.items() if values}
    return {"means": means, "differences": differences}


def _in_words(difference: Mean, *, is_lower_better: bool) -> str:
    if difference.n < 2:
        return "one seed shows no difference"
    if not difference.excludes_zero:
        return "no difference shown"
    return "better" if (difference.value < 0) == is_lower_better else "worse"
