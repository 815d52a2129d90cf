"""What a study found for each source apart: every way of training on every source, with its interval."""

from typing import Any

from rmeval.charts import chart
from rmeval.rendering import chart_svg
from rmeval.run_charts import RunChart
from rmeval.study_layers import dots_above

FIGURES = {"accuracy": "Accuracy by source", "ece": "Calibration error by source"}
MOST_DRAWN = 40


def source_charts(by_source: dict[str, Any], *, n_seeds: int) -> list[RunChart]:
    """One chart of accuracy and one of the expected calibration error; none where trainings tell no sources apart."""
    made = [source_chart(by_source, figure, n_seeds=n_seeds) for figure in FIGURES]
    return [one for one in made if one is not None]


def source_chart(by_source: dict[str, Any], figure: str, *, n_seeds: int) -> RunChart | None:
    cells = [
        (source, arm, mean, found[figure]["differences"].get(arm))
        for source, found in by_source.items()
        for arm, mean in found[figure]["means"].items()
    ]
    if not cells:
        return None
    is_rate = figure == "accuracy"
    rows = [{"name": f"{source}: {arm}", **mean} for source, arm, mean, _ in cells[:MOST_DRAWN]]
    for row in rows if not is_rate else ():
        row["low"] = row["low"] and max(0.0, row["low"])  # no calibration error is below zero
    layers = dots_above(rows, points=[], metric=figure if is_rate else "ECE", is_rate=is_rate)
    label = "; ".join(f"{row['name']} {row['value']:.3f}" for row in rows)
    better = "" if is_rate else " Less is better."
    left_out = (
        f" Drawn are the first {MOST_DRAWN} of {len(cells)}; the table has them all." if len(cells) > len(rows) else ""
    )
    return RunChart(
        f"source-{figure}",
        FIGURES[figure],
        chart_svg({**chart(rows, layers), "height": {"step": 40}}, label=label),
        ("source", "arm", figure, "low", "high", "runs", "from the first", "low", "high", "answer"),
        [(source, arm, *figures(mean), mean["n"], *compared(difference)) for source, arm, mean, difference in cells],
        note=f"Mean over seeds (n = {n_seeds}) on the held-out pairs of each source, with its 95% interval."
        f"{better}{left_out}",
    )


def figures(mean: dict[str, Any]) -> tuple[Any, ...]:
    return mean["value"], mean["low"], mean["high"]


def compared(difference: dict[str, Any] | None) -> tuple[Any, ...]:
    return (*figures(difference), difference["answer"]) if difference else (None, None, None, "")
