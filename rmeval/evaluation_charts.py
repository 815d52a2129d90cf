"""The pictures of one evaluation: is it calibrated, and how do its rewards lie?"""

from typing import Any

from rmeval.charts import histogram_chart, reliability_chart
from rmeval.models import Checkpoint
from rmeval.rendering import chart_svg
from rmeval.run_charts import RunChart
from rmeval.selectors.rewards import Histogram, reward_histograms
from rmeval.sources import PairSource

AS_IT_IS, SCALED = "as it is", "with temperature"


def evaluation_charts(*, metrics: dict[str, Any], source: PairSource, checkpoint: Checkpoint) -> list[RunChart]:
    """What an evaluation's result and its stored scores can show; an older result has no calibration."""
    made = [calibration_chart(metrics.get("calibration"))]
    found = reward_histograms(source=source, checkpoint=checkpoint)
    if found is not None:
        made += [
            rewards_chart("rewards", "Rewards", found.rewards, found.n, x_title="reward"),
            rewards_chart("margins", "Margins", found.margins, found.n, x_title="margin, chosen minus rejected"),
        ]
    return [chart for chart in made if chart is not None]


def calibration_chart(found: dict[str, Any] | None) -> RunChart | None:
    if not found:
        return None
    series = {AS_IT_IS: points(found)}
    after = found.get("after")
    if after:
        series[SCALED] = points(after)
    label = f"Reliability diagram of {found['n']} pairs; expected calibration error {found['ece']:.3f}"
    rows = [
        (f"{b['low']:.1f} to {b['high']:.1f}", *cells(b), *(cells(after["bins"][place]) if after else ()))
        for place, b in enumerate(found["bins"])
    ]
    columns = ("predicted", "n", "mean predicted", "came true")
    more = tuple(f"{name}, {SCALED}" for name in columns[1:]) if after else ()
    return RunChart(
        "calibration",
        "Calibration",
        chart_svg(reliability_chart(series), label=label),
        (*columns, *more),
        rows,
        note=calibration_note(found),
        facts=calibration_facts(found),
    )


def points(found: dict[str, Any]) -> list[tuple[float, float, int]]:
    return [(b["mean_p"], b["share"], b["n"]) for b in found["bins"] if b["n"]]


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    means = (found["mean_p"], found["share"])
    return (str(found["n"]), *("–" if value is None else f"{value:.3f}" for value in means))


def calibration_facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    has_interval = found["low"] is not None
    interval = f" [{found['low']:.3f}, {found['high']:.3f}]" if has_interval else ""
    facts = [
        (
            "Expected error (ECE)",
            f"{found['ece']:.3f}{interval}, n = {found['n']} pairs of {found['n_prompts']} prompts",
        ),
        ("Average over bins (ACE)", f"{found['ace']:.3f}"),
        ("Largest bin (MCE)", f"{found['mce']:.3f}"),
    ]
    if found["temperature"] is not None:
        facts.append(("Best temperature", f"{found['temperature']:.3g}"))
    if after := found.get("after"):
        facts.append(("ECE with temperature", f"{after['ece']:.3f}, each half with the temperature of the other"))
    else:
        facts.append(("ECE with temperature", f"none: {found['after_reason']}"))
    return facts


def calibration_note(found: dict[str, Any]) -> str:
    text = (
        "A calibrated model prefers a response with probability sigmoid(margin): its dots lie on the dashed line. "
        "Symmetric form: both orders of each pair count, so the two halves mirror one another. "
        "The interval is a 95% bootstrap over prompts."
    )
    return f"{text} {found['remark']}".strip()


def rewards_chart(name: str, title: str, found: Histogram, n: int, *, x_title: str) -> RunChart:
    edges = [found.bins.edges(number) for number in range(found.bins.n)]
    rows = [
        {"low": low, "high": high, "n": counts[place], "series": series}
        for series, counts in found.counts.items()
        for place, (low, high) in enumerate(edges)
    ]
    names = list(found.counts)
    spec = histogram_chart(rows, names=names, x_title=x_title, zero_rule=names == ["margin"])
    label = f"Histogram of {' and '.join(names)} {'rewards' if len(names) > 1 else ''} of {n} pairs".replace("  ", " ")
    beyond = f" {found.n_beyond} beyond the ends count in the outermost bars." if found.n_beyond else ""
    note = (
        "Right of the dashed line the model agrees with people; a margin of exactly zero stands there too, but "
        "counts as wrong."
        if names == ["margin"]
        else "Rewards of the response people chose and of the one they rejected. Only their difference has a meaning."
    )
    table = [
        (f"{low:.6g} to {high:.6g}", *(str(found.counts[series][place]) for series in names))
        for place, (low, high) in enumerate(edges)
    ]
    columns = (x_title.split(",", maxsplit=1)[0], *("n" if len(names) == 1 else f"n {series}" for series in names))
    return RunChart(name, title, chart_svg(spec, label=label), columns, table, note=f"n = {n} pairs. {note}{beyond}")
