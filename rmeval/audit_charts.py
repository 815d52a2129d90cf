"""The pictures of a label audit: how strong the labels are, and where the members differ."""

from typing import Any

from rmeval.charts import histogram_chart, line_chart
from rmeval.rendering import chart_svg
from rmeval.run_charts import RunChart


def audit_charts(result: dict[str, Any]) -> list[RunChart]:
    return [chart for chart in (strength_chart(result), spread_chart(result)) if chart is not None]


def strength_chart(result: dict[str, Any]) -> RunChart | None:
    bins = result.get("strengths")
    if not bins:
        return None
    rows = [{**found, "series": "pairs"} for found in bins]
    spec = histogram_chart(rows, names=["pairs"], x_title="strength: mean margin towards the label", zero_rule=True)
    share, n = result["negative_strength_share"], result["n_audited"]
    label = f"Histogram of the strength of {n} labels; {share:.1%} are negative"
    noise = result["noise_rate"]
    facts = [
        ("Negative strength", f"{share:.1%} of {n} pairs"),
        ("Labels taken to be wrong", f"{noise['value']:.1%}, {noise['source'].replace('_', ' ')}: {noise['note']}"),
        ("Members", f"{result['members']}, {result['measured']}"),
        *((f"{name.capitalize()} pairs", group_words(group)) for name, group in result["groups"].items()),
    ]
    cells = [(f"{found['low']:.3f} to {found['high']:.3f}", found["n"]) for found in bins]
    note = "Left of the line the members hold the label to be the wrong way round."
    svg = chart_svg(spec, label=label)
    return RunChart("strengths", "Strength of the labels", svg, ("strength", "pairs"), cells, note=note, facts=facts)


def group_words(group: dict[str, Any]) -> str:
    if not group["n"]:
        return "none"
    slopes = group.get("gradient_norm") or []
    told = f"{group['n']}, mean loss {group['mean_loss']:.3f}, spread {group['sd_loss']:.3f}"
    return told + (f", gradient by epoch {', '.join(f'{slope:.2g}' for slope in slopes)}" if slopes else "")


def spread_chart(result: dict[str, Any]) -> RunChart | None:
    groups = result.get("strength_groups")
    if not groups:
        return None
    points = [(group["mu"], group["sigma"]) for group in groups]
    spec = line_chart(points, y_title="spread over the members", x_title="mean strength of the group", zero=True)
    shape = result["u_shape"]
    facts = [
        ("Lowest group", f"{shape['first']:.2f} times the smallest spread"),
        ("Highest group", f"{shape['last']:.2f} times the smallest spread"),
    ]
    return RunChart(
        "spread",
        "Where the members differ",
        chart_svg(spec, label=f"Spread over the members in {len(groups)} groups by strength"),
        ("strength", "spread", "pairs"),
        [(group["mu"], group["sigma"], group["n"]) for group in groups],
        note="Pairs in groups of equal size by strength. Members differ most where pairs are clear or clearly wrong.",
        facts=facts,
    )
