"""Chart specs (Vega-Lite) as plain dicts. rendering.py draws them; the table behind each stands on the page as well."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

#: The light theme's series colours; static/css/rmeval.css maps them to the reader's theme.
SERIES = ("#275a8c", "#b4551d", "#2c7a63", "#7d4fa3")
RULE = "#b9bab4"
HOLLOW = "#fefefe"
#: Dashes of further series of the same colours.
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 3])
MOST_LINES = len(SERIES) * len(DASHES)
WIDTH, HEIGHT, NARROW = 400, 200, 300
LINE_CHARS = 34
LETTER = 7.6


def chart(values: Sequence[dict[str, Any]], layers: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": list(values)},
        "layer": layers,
        **rest,
    }


def axis_x(field: str, title: str, **rest: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 6, "grid": False}, **rest}


def axis_y(field: str, title: str, *, is_rate: bool = False, zero: bool = False) -> dict[str, Any]:
    axis: dict[str, Any] = {"tickCount": 5}
    if is_rate:
        axis["format"] = ".0%"
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}, "axis": axis}


def line_chart(
    points: Sequence[tuple[float, float]],
    *,
    y_title: str,
    x_title: str = "step",
    zero: bool = False,
    smooth: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """A curve; with `smooth`, the raw points are faint and the smoothed curve leads."""
    raw = [{"x": x, "y": y} for x, y in points]
    y = axis_y("y", y_title, zero=zero)
    if len(levels := {value for _, value in points}) == 1 and not zero:
        y["scale"] = {"domain": around(levels.pop())}
    encoding = {"x": axis_x("x", x_title), "y": y}
    if not smooth:
        mark = {"type": "line", "color": SERIES[0], "strokeWidth": 1.8, "point": point(len(raw))}
        return chart(raw, [{"mark": mark, "encoding": encoding}])
    leading = [{"x": x, "y": y} for x, y in smooth]
    faint = {"type": "line", "color": SERIES[0], "strokeWidth": 1, "opacity": 0.35}
    strong = {"type": "line", "color": SERIES[0], "strokeWidth": 2.2}
    return chart(
        raw,
        [{"mark": faint, "encoding": encoding}, {"data": {"values": leading}, "mark": strong, "encoding": encoding}],
    )


def around(value: float) -> list[float]:
    """Ends of an axis for one value: left alone, the chart rounds its only tick to a whole number."""
    room = max(abs(value) / 10, 0.01)
    return [value - room, value + room]


def lines_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, y_title: str, x_title: str = "step", is_share: bool = False
) -> dict[str, Any]:
    """Several named curves with a legend, told apart by colour and by dashes; more than MOST_LINES are too many."""
    rows = [{"x": x, "y": y, "series": name} for name, points in series.items() for x, y in points]
    names = list(series)
    looks = [(SERIES[i % len(SERIES)], DASHES[i // len(SERIES) % len(DASHES)]) for i in range(len(names))]
    field = {"field": "series", "type": "nominal", "title": None}
    y = axis_y("y", y_title, is_rate=is_share)
    if is_share:
        y["scale"] = {"domain": [0, 1]}
    encoding = {
        "x": axis_x("x", x_title),
        "y": y,
        "color": {**field, "scale": {"domain": names, "range": [colour for colour, _ in looks]}},
        "strokeDash": {**field, "scale": {"domain": names, "range": [dash for _, dash in looks]}},
    }
    for channel in ("color", "strokeDash"):
        encoding[channel]["legend"] = {"orient": "bottom", "columns": 2, "labelLimit": 180, "symbolType": "stroke"}
    return chart(rows, [{"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": encoding}])


def band_chart(
    points: Sequence[tuple[float, float, float | None, float | None]], *, y_title: str, reference: float | None = 0.5
) -> dict[str, Any]:
    """A rate over steps with its interval as a band, and a line for chance."""
    rows = [{"x": x, "y": y, "low": low, "high": high} for x, y, low, high in points]
    x, y = axis_x("x", "step"), axis_y("y", y_title, is_rate=True)
    band = {
        "mark": {"type": "area", "color": SERIES[2], "opacity": 0.2},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
    }
    line = {
        "mark": {"type": "line", "color": SERIES[2], "strokeWidth": 2, "point": point(len(rows), SERIES[2])},
        "encoding": {"x": x, "y": y},
    }
    layers: list[dict[str, Any]] = [band, line]
    if len(rows) <= 40:  # a band needs two points; these show the interval of each
        span = {"mark": {"type": "rule", "color": SERIES[2], "strokeWidth": 1.5}, "encoding": band["encoding"]}
        layers.insert(1, span)
    if reference is not None:
        rule = {"type": "rule", "color": RULE, "strokeDash": [4, 3]}
        layers.insert(0, {"data": {"values": [{"y": reference}]}, "mark": rule, "encoding": {"y": y}})
    return chart(rows, layers)


def point(n_points: int, color: str = SERIES[0]) -> dict[str, Any] | bool:
    """Dots where there are few points: a curve of one point would not show at all."""
    return {"filled": True, "size": 28, "color": color} if n_points <= 40 else False


def dot_interval_chart(
    rows: Sequence[dict[str, Any]], *, x_title: str = "accuracy", is_narrow: bool = False
) -> dict[str, Any]:
    """One dot with its interval for each row: {name, value, low, high, is_baseline}. Baselines are hollow.

    Names stand at the left, in as many lines as they need; on a narrow page in one line above their dot.
    """
    lines = one_line if is_narrow else wrapped
    rows = [{**row, "key": str(index), "lines": lines(row["name"])} for index, row in enumerate(rows)]
    names = {row["key"]: row["lines"] for row in rows}
    # Whoever draws measures with another font than the reader has: room is kept by the number of letters.
    room = LETTER * max(len(line) for row in rows for line in row["lines"])
    axis = {
        "labelLimit": 0,
        "minExtent": room,
        "grid": False,
        "ticks": False,
        "domain": False,
        "labelPadding": 8,
        "labelLineHeight": 13,
    }
    y = {
        "field": "key",
        "type": "nominal",
        "sort": [row["key"] for row in rows],
        "title": None,
        "axis": None if is_narrow else {**axis, "labelExpr": f"{json.dumps(names)}[datum.value]"},
    }
    domain = [min([0.45, *(row["low"] for row in rows)]), max([0.55, *(row["high"] for row in rows)])]
    x = {
        "field": "value",
        "type": "quantitative",
        "title": x_title,
        "scale": {"domain": domain, "nice": True, "zero": False},
        "axis": {"format": ".0%", "grid": True, "tickCount": 4 if is_narrow else 7},
    }
    chance = {
        "data": {"values": [{"value": 0.5}]},
        "mark": {"type": "rule", "color": RULE, "strokeDash": [4, 3]},
        "encoding": {"x": x},
    }
    span = {
        "mark": {"type": "rule", "color": SERIES[0], "strokeWidth": 2},
        "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }
    dot: dict[str, Any] = {"type": "point", "size": 90, "strokeWidth": 2, "stroke": SERIES[0], "opacity": 1}
    marks: list[dict[str, Any]] = [
        {
            "transform": [{"filter": {"field": "is_baseline", "equal": is_baseline}}],
            "mark": {**dot, "fill": HOLLOW if is_baseline else SERIES[0]},
            "encoding": {"y": y, "x": x},
        }
        for is_baseline in (False, True)
    ]
    layers: list[dict[str, Any]] = [chance, span, *marks]
    if is_narrow:
        text = {"type": "text", "align": "left", "baseline": "bottom", "dy": -8, "fontSize": 12, "limit": NARROW}
        layers.append({"mark": text, "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "lines"}}})
    n_lines = max(len(row["lines"]) for row in rows)
    step = 26 + 15 * n_lines if is_narrow else max(30, 8 + 14 * n_lines)
    made = {**chart(rows, layers), "width": NARROW if is_narrow else 560, "height": {"step": step}}
    return {**made, "padding": {"left": 5, "right": 12, "top": 12, "bottom": 5}}


def one_line(name: str) -> list[str]:
    """A name as it fits above a dot: what is longer loses its middle."""
    most = 42
    return [name if len(name) <= most else f"{name[: most - 15]} … {name[-12:]}"]


def wrapped(name: str) -> list[str]:
    """A name in lines of a length that fits beside a chart; what is longer than four lines loses its middle."""
    text = name if len(name) <= 4 * LINE_CHARS else f"{name[: 2 * LINE_CHARS]} … {name[-LINE_CHARS:]}"
    return textwrap.wrap(text, LINE_CHARS) or [""]


def reliability_chart(series: Mapping[str, Sequence[tuple[float, float, int]]]) -> dict[str, Any]:
    """(mean prediction, share that came true, n) by bin for each named series, against the diagonal of perfection."""
    rows = [{"x": x, "y": y, "n": n, "series": name} for name, points in series.items() for x, y, n in points]
    scale, axis = {"domain": [0, 1]}, {"format": ".0%", "tickCount": 5}
    x = {"field": "x", "type": "quantitative", "title": "predicted", "scale": scale, "axis": {**axis, "grid": False}}
    y = {"field": "y", "type": "quantitative", "title": "came true", "scale": scale, "axis": axis}
    names = list(series)
    colour = {
        "field": "series",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": [SERIES[0], SERIES[1]][: len(names)]},
    }
    shape = {**colour, "scale": {"domain": names, "range": ["circle", "square"][: len(names)]}}
    diagonal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "color": RULE, "strokeDash": [4, 3]},
        "encoding": {"x": x, "y": y},
    }
    line = {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": {"x": x, "y": y, "color": colour}}
    dots = {
        "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
    }
    return {**chart(rows, [diagonal, line, dots]), "width": 300, "height": 300}


def histogram_chart(
    rows: Sequence[dict[str, Any]], *, names: Sequence[str], x_title: str, zero_rule: bool = False
) -> dict[str, Any]:
    """Counts by bin: rows of {low, high, n, series}. Two series lie over one another, the second as an outline."""
    x = {"field": "low", "type": "quantitative", "title": x_title, "axis": {"tickCount": 5, "grid": False}}
    x = {**x, "scale": {"zero": False, "nice": False}}
    y = {"field": "n", "type": "quantitative", "title": "count", "axis": {"tickCount": 5}}
    layers: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        look = {"fillOpacity": 0.45, "strokeWidth": 1} if place == 0 else {"fillOpacity": 0.12, "strokeWidth": 1.8}
        layers.append(
            {
                "transform": [{"filter": {"field": "series", "equal": name}}],
                "mark": {"type": "bar", **look},
                "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "y2": {"datum": 0}, **series_colours(names)},
            }
        )
    if zero_rule:
        rule = {"type": "rule", "color": RULE, "strokeDash": [4, 3], "strokeWidth": 1.5}
        layers.append({"data": {"values": [{"low": 0}]}, "mark": rule, "encoding": {"x": x}})
    return chart(rows, layers)


def series_colours(names: Sequence[str]) -> dict[str, Any]:
    """Fill and outline of named series, with one legend; none for a single series."""
    colours = [SERIES[2], SERIES[1]][: len(names)]
    legend = {"title": None} if len(names) > 1 else None
    field = {"field": "series", "type": "nominal", "scale": {"domain": list(names), "range": colours}}
    return {"fill": {**field, "legend": legend}, "stroke": {**field, "legend": None}}


def margin_scatter(points: Sequence[tuple[float, float]], *, x_title: str, y_title: str) -> dict[str, Any]:
    """Margins of two models on the same pairs; the quadrants are the cells of the agreement matrix."""
    rows = [{"x": x, "y": y, "cell": cell_name(x, y)} for x, y in points]
    x = {"field": "x", "type": "quantitative", "title": x_title, "axis": {"grid": False, "tickCount": 7}}
    y = {"field": "y", "type": "quantitative", "title": y_title, "axis": {"grid": False, "tickCount": 7}}
    rule = {"type": "rule", "color": RULE}
    cells = ["both right", "one right", "both wrong"]
    colour = {
        "field": "cell",
        "type": "nominal",
        "title": None,
        "scale": {"domain": cells, "range": [SERIES[2], SERIES[3], SERIES[1]]},
    }
    shape = {
        "field": "cell",
        "type": "nominal",
        "title": None,
        "scale": {"domain": cells, "range": ["circle", "square", "triangle-up"]},
    }
    layers: list[dict[str, Any]] = [
        {"data": {"values": [{"x": 0}]}, "mark": rule, "encoding": {"x": x}},
        {"data": {"values": [{"y": 0}]}, "mark": rule, "encoding": {"y": y}},
        {
            "mark": {"type": "point", "filled": True, "size": 22, "opacity": 0.55},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
        },
    ]
    return {**chart(rows, layers), "width": WIDTH, "height": 360}


def cell_name(x: float, y: float) -> str:
    n_right = (x > 0) + (y > 0)
    return ("both wrong", "one right", "both right")[n_right]


def smoothed(points: Sequence[tuple[float, float]], *, share: float = 0.1) -> list[tuple[float, float]]:
    """Centred moving mean over `share` of the points; nothing where there are too few for it to say more."""
    if len(points) < 30:
        return []
    half = max(2, round(len(points) * share / 2))
    out = []
    for index, (x, _) in enumerate(points):
        window = [y for _, y in points[max(0, index - half) : index + half + 1]]
        out.append((x, sum(window) / len(window)))
    return out
