"""Rows of dots with intervals, their names above them: how studies draw means."""

from collections.abc import Sequence
from typing import Any

from rmeval.charts import HOLLOW, SERIES, WIDTH, axis_x

LABEL_CHARS = 56


def dots_above(
    rows: list[dict[str, Any]], *, points: Sequence[dict[str, Any]], metric: str, is_rate: bool
) -> list[dict[str, Any]]:
    """Layers for rows of {name, value, low, high}: a dot, its interval, the name above; a ring for each of `points`.

    Gives every row its `key` and shortens its name. Points are {key, value}, the key counted as text from "0".
    """
    for number, row in enumerate(rows):
        row |= {"key": str(number), "name": shortened(row["name"])}
    y = {"field": "key", "type": "nominal", "sort": [row["key"] for row in rows], "title": None, "axis": None}
    ends = [row[name] for row in rows for name in ("value", "low", "high")] + [one["value"] for one in points]
    x = axis_x("value", metric, scale=scale_of([end for end in ends if end is not None], is_rate=is_rate))
    x["axis"] = {"tickCount": 5, "grid": True, **({"format": ".1%"} if is_rate else {})}
    ring = {"type": "point", "size": 36, "strokeWidth": 1.2, "stroke": SERIES[0], "fill": HOLLOW, "opacity": 0.8}
    text = {"type": "text", "align": "left", "baseline": "bottom", "dy": -9, "fontSize": 12, "limit": WIDTH}
    spans = [row for row in rows if row["low"] is not None]
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": spans},
            "mark": {"type": "rule", "color": SERIES[0], "strokeWidth": 2, "clip": True},
            "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {"data": {"values": list(points)}, "mark": ring, "encoding": {"y": y, "x": x}},
        {
            "mark": {"type": "point", "filled": True, "size": 90, "color": SERIES[0], "opacity": 1},
            "encoding": {"y": y, "x": x},
        },
        {"mark": text, "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "name"}}},
    ]
    return [layer for layer in layers if layer.get("data", {}).get("values") != []]


def scale_of(ends: Sequence[float], *, is_rate: bool) -> dict[str, Any]:
    """All values, and intervals as far as a rate can go: Student's know nothing of 0 and 1."""
    if not is_rate or not ends:
        return {"zero": False, "nice": True}
    return {
        "domain": [max(0.0, min(ends)), min(1.0, max(ends))],
        "nice": min(ends) > 0 and max(ends) < 1,
        "zero": False,
    }


def shortened(name: str) -> str:
    return name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 12]} … {name[-9:]}"
