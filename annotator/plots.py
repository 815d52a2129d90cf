"""Small plots that a template draws as SVG: coordinates only, so that colours stay in the style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, ROW, LEFT, RIGHT, TOP = 640, 36, 190, 20, 8


@dataclass(frozen=True, slots=True)
class IntervalMark:
    label: str
    y: float
    x: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class IntervalPlot:
    """Values with intervals on one axis."""

    width: int
    height: int
    left: int
    axis_y: float
    marks: list[IntervalMark]
    ticks: list[tuple[float, str]]


def interval_plot(rows: Sequence[tuple[str, float, float | None, float | None]]) -> IntervalPlot | None:
    """Rows of (label, value, low, high) from the lowest round value to 1. None without rows."""
    if not rows:
        return None
    lowest = min(0.0, *(value if low is None else low for _, value, low, _ in rows))
    start = math.floor(lowest / 0.2) * 0.2
    scale = (WIDTH - LEFT - RIGHT) / (1.0 - start)

    def place(value: float) -> float:
        return round(LEFT + (value - start) * scale, 1)

    marks = [
        IntervalMark(
            label,
            TOP + ROW * (i + 0.5),
            place(value),
            place(low if low is not None else value),
            place(high if high is not None else value),
        )
        for i, (label, value, low, high) in enumerate(rows)
    ]
    n_ticks = round((1.0 - start) / 0.2)
    ticks = [(place(start + 0.2 * i), f"{start + 0.2 * i:.1f}".replace("-0.0", "0.0")) for i in range(n_ticks + 1)]
    axis_y = TOP + ROW * len(rows)
    return IntervalPlot(WIDTH, axis_y + 24, LEFT, axis_y, marks, ticks)
