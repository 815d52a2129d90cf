"""The charts of a run's page. Drawing costs tens of milliseconds, so pages that watch one run share each picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.utils.safestring import SafeString

from rmeval.charts import band_chart, line_chart, smoothed
from rmeval.models import Run
from rmeval.rendering import chart_svg
from rmeval.selectors.runs import Curve, run_curves

#: A live page asks at every poke; while the run goes on it gets pictures up to this old.
REDRAWN_EVERY_S = 2
TABLE_ROWS = 40


@dataclass(frozen=True)
class RunChart:
    name: str
    title: str
    svg: SafeString
    columns: Sequence[str]
    rows: list[tuple[Any, ...]]
    note: str = ""
    facts: Sequence[tuple[str, str]] = ()


def run_charts(run: Run) -> list[RunChart]:
    key = f"run-charts:{run.uid}:{run.state}:{run.attempt}"
    found: list[RunChart] | None = cache.get(key)
    if found is None:
        curves = run_curves(run=run)
        found = [chart for build in BUILDERS if (chart := build(curves)) is not None]
        cache.set(key, found, 3600 if run.has_ended else REDRAWN_EVERY_S)
    return found


def loss_chart(curves: dict[str, Curve]) -> RunChart | None:
    loss = curves.get("loss")
    if loss is None:
        return None
    points = list(zip(loss.steps, loss.values, strict=True))
    spec = line_chart(points, y_title="loss", smooth=smoothed(points))
    svg = chart_svg(spec, label=f"Training loss over {loss.steps[-1]} steps, now {loss.values[-1]:.3f}")
    return RunChart("loss", "Training loss", svg, ("step", "loss"), thinned(points))


def accuracy_chart(curves: dict[str, Curve]) -> RunChart | None:
    accuracy = curves.get("validation_accuracy")
    if accuracy is None:
        return None
    low, high = by_step(curves.get("validation_low")), by_step(curves.get("validation_high"))
    points = [(s, v, low.get(s), high.get(s)) for s, v in zip(accuracy.steps, accuracy.values, strict=True)]
    n = curves.get("validation_n")
    label = f"Validation accuracy by step, now {accuracy.values[-1]:.1%}"
    svg = chart_svg(band_chart(points, y_title="accuracy"), label=label)
    held_out = f" on {n.values[-1]:.0f} held-out pairs" if n and n.values else ""
    return RunChart(
        "accuracy",
        "Validation accuracy",
        svg,
        ("step", "accuracy", "low", "high"),
        thinned(points),
        note=f"Share of pairs with margin > 0{held_out}; the band is the 95% interval, the dashed line chance.",
    )


def speed_chart(curves: dict[str, Curve]) -> RunChart | None:
    speed = curves.get("pairs_per_s") or curves.get("responses_per_s")
    if speed is None or len(speed.steps) < 2:
        return None  # a curve of one point says nothing; the result has the figure
    unit = "pairs/s" if "pairs_per_s" in curves else "responses/s"
    points = list(zip(speed.steps, speed.values, strict=True))
    svg = chart_svg(line_chart(points, y_title=unit, zero=True), label=f"Speed, now {speed.values[-1]:.0f} {unit}")
    return RunChart("speed", "Speed", svg, ("step", unit), thinned(points))


BUILDERS: tuple[Callable[[dict[str, Curve]], RunChart | None], ...] = (loss_chart, accuracy_chart, speed_chart)


def by_step(curve: Curve | None) -> dict[int, float]:
    return dict(zip(curve.steps, curve.values, strict=True)) if curve else {}


def thinned(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Enough rows to read: evenly chosen, the last one always there."""
    every = max(1, -(-len(rows) // TABLE_ROWS))
    return list(rows[::-1][::every][::-1])
