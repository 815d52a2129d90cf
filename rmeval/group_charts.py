"""How a training did on each source and for each rater of its held-out pairs."""

from typing import Any

from rmeval.charts import dot_interval_chart
from rmeval.rendering import chart_svg
from rmeval.run_charts import RunChart

GROUPS = {"by_source": ("Accuracy by source", "source"), "by_rater": ("Accuracy by rater", "rater")}
MOST_DRAWN = 25


def group_charts(result: dict[str, Any]) -> list[RunChart]:
    """Of a finished training whose held-out pairs have sources or raters to tell apart."""
    told = result.get("validation_best") or {}
    return [made for name in GROUPS if (made := group_chart(told.get(name), *GROUPS[name])) is not None]


def group_chart(found: dict[str, Any] | None, title: str, word: str) -> RunChart | None:
    """The largest groups first: a small n says little."""
    groups = sorted((found or {}).items(), key=lambda item: (-item[1]["n"], item[0]))
    if len(groups) < 2:
        return None
    rows = [
        {
            "name": f"{name or 'not known'} ({told['n']:.0f})",
            "value": told["value"],
            "low": told["low"],
            "high": told["high"],
            "is_baseline": False,
        }
        for name, told in groups[:MOST_DRAWN]
    ]
    told = "; ".join(f"{name} {one['value']:.1%}" for name, one in groups[:MOST_DRAWN])
    left_out = f" Drawn are the {MOST_DRAWN} largest of {len(groups)}." if len(groups) > MOST_DRAWN else ""
    return RunChart(
        f"by-{word}",
        title,
        chart_svg(dot_interval_chart(rows, is_narrow=True), label=f"{title}: {told}"),
        (word, "accuracy", "low", "high", "pairs", "ECE"),
        [
            (name, *(one[key] for key in ("value", "low", "high")), f"{one['n']:.0f}", one.get("ece"))
            for name, one in groups
        ],
        note=f"Of the kept checkpoint, on held-out pairs (their number in brackets), with 95% intervals.{left_out}",
    )
