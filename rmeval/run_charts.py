"""The charts of a run's page. Drawing costs tens of milliseconds, so pages that watch one run share each picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.utils.safestring import SafeString

from rmeval.charts import MOST_LINES, band_chart, line_chart, lines_chart, smoothed
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


def validation_loss_chart(curves: dict[str, Curve]) -> RunChart | None:
    found = curves.get("validation_loss")
    if found is None or len(found.steps) < 2:
        return None
    points = list(zip(found.steps, found.values, strict=True))
    label = f"Validation loss by step, lowest {min(found.values):.3f}, now {found.values[-1]:.3f}"
    svg = chart_svg(line_chart(points, y_title="loss"), label=label)
    note = "On held-out data. Where it rises while the training loss falls, the model learns its data by heart."
    return RunChart("validation-loss", "Validation loss", svg, ("step", "loss"), thinned(points), note=note)


def correlation_chart(curves: dict[str, Curve]) -> RunChart | None:
    """Pearson's r of each attribute between ratings and outputs, where a training has attributes."""
    found = named_curves(curves, "validation_pearson_")
    if not found:
        return None
    note = "Pearson's r between a rating and the model's output for it, on held-out responses."
    return many("attributes", "Attributes on held-out responses", found, y_title="Pearson's r", note=note)


def weights_chart(curves: dict[str, Curve]) -> RunChart | None:
    """What each source weighs, step by step, where an objective weighs sources."""
    found = named_curves(curves, "lambda_")
    if not found:
        return None
    note = "What each source's mean loss is multiplied by; together they are 1."
    if conflict := curves.get("full_conflict"):
        share = sum(conflict.values) / len(conflict.values)
        note += f" Sources conflict fully in {share:.1%} of the steps shown: then no step helps them all."
    return many("weights", "Weights of the sources", found, y_title="weight", is_share=True, note=note)


def many(
    name: str, title: str, found: dict[str, Curve], *, y_title: str, note: str, is_share: bool = False
) -> RunChart:
    """One chart of several curves; of too many, those with the largest mean are drawn. The table has them all."""
    drawn = sorted(found, key=lambda one: -sum(found[one].values) / len(found[one].values))[:MOST_LINES]
    series = {one: list(zip(found[one].steps, found[one].values, strict=True)) for one in found if one in drawn}
    now = ", ".join(f"{one} {curve.values[-1]:.2f}" for one, curve in found.items() if one in drawn)
    svg = chart_svg(lines_chart(series, y_title=y_title, is_share=is_share), label=f"{title} by step, now {now}")
    steps = sorted({step for curve in found.values() for step in curve.steps})
    values = [by_step(curve) for curve in found.values()]
    rows = [(step, *(value.get(step) for value in values)) for step in steps]
    if len(drawn) < len(found):
        note += f" Drawn are the {len(drawn)} largest of {len(found)}; the table has them all."
    return RunChart(name, title, svg, ("step", *found), thinned(rows), note=note)


def named_curves(curves: dict[str, Curve], prefix: str) -> dict[str, Curve]:
    """Curves by what follows the prefix, in the order of names."""
    return {name.removeprefix(prefix): curves[name] for name in sorted(curves) if name.startswith(prefix)}


BUILDERS: tuple[Callable[[dict[str, Curve]], RunChart | None], ...] = (
    loss_chart,
    accuracy_chart,
    validation_loss_chart,
    correlation_chart,
    weights_chart,
    speed_chart,
)


def by_step(curve: Curve | None) -> dict[int, float]:
    return dict(zip(curve.steps, curve.values, strict=True)) if curve else {}


def thinned(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Enough rows to read: evenly chosen, the last one always there."""
    every = max(1, -(-len(rows) // TABLE_ROWS))
    return list(rows[::-1][::every][::-1])
