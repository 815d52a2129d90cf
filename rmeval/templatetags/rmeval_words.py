"""Names of registered things and values of settings in the words of a page."""

import json
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rmeval.typed_parts import signed as signed_number
from workers.families import FAMILIES
from workers.jobs import JOBS

register = template.Library()

SMALLEST_P = 0.0001


@register.filter
def job_title(kind: str) -> str:
    """train_rm -> Train a reward model. A kind that is no longer registered keeps its name."""
    return str(JOBS.get(kind).title) if kind in JOBS else kind.replace("_", " ")


@register.filter
def family_title(name: str) -> str:
    return str(FAMILIES.get(name).title) if name in FAMILIES else name.replace("_", " ")


@register.filter
def plain(value: Any) -> str:
    """A setting as text: ["a", "b"] -> a, b; True -> yes; nothing -> none."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return ", ".join(plain(part) for part in value)
    if isinstance(value, dict) and not any(isinstance(part, dict | list) for part in value.values()):
        return ", ".join(f"{name}: {plain(part)}" for name, part in value.items())
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


@register.filter
def signed(value: float) -> str:
    """-0.25 -> −0.25; 0.25 -> +0.25."""
    return signed_number(value)


@register.filter
def points(value: float) -> str:
    """Difference of two shares in percentage points, without the unit: -0.36 -> −36.0; 0.02 -> +2.0; 0 -> 0.0."""
    rounded = round(100 * value, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


@register.filter
def p_value(value: float | None) -> str:
    """0.0123 -> p = 0.0123; what four decimals cannot tell from nothing -> p < 0.0001."""
    if value is None:
        return "p not known"
    return f"p = {value:.4f}" if value >= SMALLEST_P else f"p < {SMALLEST_P}"


@register.simple_tag
def mean_of(mean: dict[str, Any], is_rate: bool, is_difference: bool = False) -> SafeString:
    """A mean over seeds with its interval; why there is none for one seed alone."""

    def figure(value: float) -> str:
        sign = "+" if is_difference else ""
        if is_rate:
            return f"{100 * value:{sign}.1f}" if is_difference else f"{value:.1%}"
        return f"{value:{sign}.4g}"

    def show(value: float) -> str:
        return figure(value).replace("-", "−")  # the minus, as wide as the plus

    unit = " points" if is_rate and is_difference else ""
    n = format_html('<span class="n">n = {} run{}</span>', mean["n"], "" if mean["n"] == 1 else "s")
    if mean["low"] is None:
        return format_html("<b>{}</b>{} {}, no interval", show(mean["value"]), unit, n)
    low, high = mean["low"], mean["high"]
    if is_rate and not is_difference:
        low, high = max(0.0, low), min(1.0, high)  # Student's t knows no bounds, a share has two
    ends = show(low), show(high)
    return format_html('<b>{}</b>{} <span class="interval">[{}, {}]</span> {}', show(mean["value"]), unit, *ends, n)


@register.filter
def chart_cell(value: Any) -> str:
    """A cell of the table behind a chart: counts and texts as they are, other numbers with four decimals."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
