"""The charts of a study: runs and means by arm, the learning curve, the grid as a heat map."""

from typing import Any

from rmeval import study_layers
from rmeval.charts import RULE, SERIES, axis_x, axis_y, chart
from rmeval.rendering import chart_svg
from rmeval.run_charts import RunChart
from rmeval.studies import ArmOutcome, StudyOutcome
from rmeval.study_source_charts import source_charts

INTERVAL = "95% interval of the mean over seeds (Student's t)"


def study_charts(found: StudyOutcome) -> list[RunChart]:
    made = [arms_chart(found)]
    if found.question == "learning_curve":
        made.insert(0, curve_chart(found))
    if found.question == "grid" and (heat := heat_chart(found)):
        made.insert(0, heat)
    return made + source_charts(found.by_source, n_seeds=found.n_seeds)


def shown(found: StudyOutcome, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if found.is_rate else f"{value:.4g}"


def scale_of(found: StudyOutcome) -> dict[str, Any]:
    ends = [v for arm in found.arms for v in (*arm.values, arm.mean["low"], arm.mean["high"]) if v is not None]
    return study_layers.scale_of(ends, is_rate=found.is_rate)


def summary(found: StudyOutcome) -> str:
    return "; ".join(f"{arm.name} {shown(found, arm.mean['value'])}" for arm in found.arms)


def mean_cells(found: StudyOutcome, mean: dict[str, Any]) -> tuple[str, ...]:
    return (*(shown(found, mean[key]) for key in ("value", "low", "high")), str(mean["n"]))


def arms_chart(found: StudyOutcome) -> RunChart:
    """A small ring for each run, a large dot with its interval for the mean; names stand above."""
    rows = [{"name": a.name, **{key: a.mean[key] for key in ("value", "low", "high")}} for a in found.arms]
    points = [{"key": str(i), "value": value} for i, arm in enumerate(found.arms) for value in arm.values]
    layers = study_layers.dots_above(rows, points=points, metric=found.metric, is_rate=found.is_rate)
    spec = {**chart(rows, layers), "height": {"step": 44}}
    return RunChart(
        "arms",
        "Ways of training",
        chart_svg({**spec, "padding": {"left": 5, "right": 12, "top": 14, "bottom": 5}}, label=summary(found)),
        ("arm", found.metric, "low", "high", "seeds"),
        [(arm.name, *mean_cells(found, arm.mean)) for arm in found.arms],
        note=f"Dot: mean over seeds (n = {found.n_seeds}) with the {INTERVAL}; rings: single runs.",
    )


def curve_chart(found: StudyOutcome) -> RunChart:
    """Mean by size of the training data; the axis counts in powers where the sizes differ much."""
    rows = [{"x": a.n_train, "y": a.mean["value"], "low": a.mean["low"], "high": a.mean["high"]} for a in found.arms]
    rows.sort(key=lambda row: row["x"])
    is_wide = rows[0]["x"] > 0 and rows[-1]["x"] / rows[0]["x"] >= 8
    x = axis_x(
        "x",
        "pairs or responses trained on",
        scale={"type": "log" if is_wide else "linear", "zero": False, "padding": 12},
    )
    y = {**axis_y("y", found.metric, is_rate=found.is_rate), "scale": scale_of(found)}
    line = {
        "type": "line",
        "color": SERIES[0],
        "strokeWidth": 2,
        "point": {"filled": True, "size": 50, "color": SERIES[0]},
    }
    layers: list[dict[str, Any]] = [{"mark": line, "encoding": {"x": x, "y": y}}]
    if spans := [row for row in rows if row["low"] is not None]:
        span = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
        rule = {"type": "rule", "color": SERIES[0], "strokeWidth": 1.5, "clip": True}
        layers.insert(0, {"data": {"values": spans}, "mark": rule, "encoding": span})
    return RunChart(
        "learning-curve",
        "Learning curve",
        chart_svg(chart(rows, layers), label=f"Learning curve: {summary(found)}"),
        ("trained on", found.metric, "low", "high", "seeds"),
        [(f"{arm.n_train:.0f}", *mean_cells(found, arm.mean)) for arm in found.arms],
        note=f"Mean over seeds with the {INTERVAL}. All sizes are measured on the same held-out data.",
    )


def heat_chart(found: StudyOutcome) -> RunChart | None:
    """Only where exactly two settings vary; the number stands in every cell."""
    names = sorted({one.setting for one in found.marginals})
    if len(names) != 2:
        return None
    down, across = names
    cells = [heat_cell(found, arm, down, across) for arm in found.arms]
    orders = {name: [str(one.value) for one in found.marginals if one.setting == name] for name in names}
    values = [cell["value"] for cell in cells]
    x = {"field": "x", "type": "nominal", "sort": orders[across], "title": plain(across), "axis": {"labelAngle": 0}}
    y = {"field": "y", "type": "nominal", "sort": orders[down], "title": plain(down)}
    scale = {"domain": [min(values), max(values)], "range": [0.08, 0.6]}
    opacity = {"field": "value", "type": "quantitative", "scale": scale, "legend": None}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "color": SERIES[2], "stroke": RULE, "strokeOpacity": 0.5},
            "encoding": {"x": x, "y": y, "fillOpacity": opacity},
        },
        {"mark": {"type": "text", "fontSize": 13}, "encoding": {"x": x, "y": y, "text": {"field": "shown"}}},
    ]
    spec = {**chart(cells, layers), "height": {"step": 44}}
    return RunChart(
        "grid",
        "Grid",
        chart_svg(spec, label=f"Grid of {down} and {across}: {summary(found)}"),
        (down, across, found.metric, "low", "high", "seeds"),
        [(c["y"], c["x"], *mean_cells(found, a.mean)) for c, a in zip(cells, found.arms, strict=True)],
        note="Mean over seeds; the more colour, the higher.",
    )


def plain(setting: str) -> str:
    """A setting as an axis calls it; where it belongs is said in the table."""
    return setting.removeprefix("config.")


def heat_cell(found: StudyOutcome, arm: ArmOutcome, down: str, across: str) -> dict[str, Any]:
    changes, value = dict(arm.changes), arm.mean["value"]
    return {"y": str(changes[down]), "x": str(changes[across]), "value": value, "shown": shown(found, value)}
