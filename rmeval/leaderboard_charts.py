"""The pictures of leaderboards and comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from rmeval.charts import dot_interval_chart, margin_scatter, one_line
from rmeval.models import Checkpoint
from rmeval.rendering import chart_svg
from rmeval.selectors.leaderboards import LeaderboardRow

MAX_DOTS = 40


@dataclass(frozen=True)
class Dots:
    """The same picture for wide and for narrow pages; the style sheet shows one of them."""

    wide: SafeString
    narrow: SafeString


def accuracy_dots(rows: Sequence[LeaderboardRow]) -> Dots | None:
    """Accuracy with its interval, in the order of the table; None where there is nothing to draw."""
    drawn = [
        {
            "name": row.name,
            "value": row.accuracy.value,
            "low": row.accuracy.low,
            "high": row.accuracy.high,
            "is_baseline": row.is_baseline,
        }
        for row in rows[:MAX_DOTS]
        if row.accuracy is not None
    ]
    if not drawn:
        return None
    told = "; ".join(f"{row['name']}: {row['value']:.1%}" for row in drawn[:10])
    label = f"Accuracy with 95% intervals. {told}"
    wide, narrow = (
        chart_svg(dot_interval_chart(drawn, is_narrow=is_narrow), label=label) for is_narrow in (False, True)
    )
    return Dots(wide, narrow)


def margins_plot(points: Sequence[tuple[float, float]], a: Checkpoint, b: Checkpoint, n: int) -> SafeString | None:
    if not points:
        return None
    shown = f"{len(points)} of {n} pairs" if len(points) < n else f"{n} pairs"
    (x_name,), (y_name,) = one_line(str(a)), one_line(str(b))
    spec = margin_scatter(points, x_title=f"margin of {x_name}", y_title=f"margin of {y_name}")
    return chart_svg(spec, label=f"Margins of {a} and {b} on the same pairs; {shown}")
