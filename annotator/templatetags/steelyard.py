"""Filters of every template: rates become percentages here and nowhere else."""

import json
import math
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext

from annotator.access import ANYONE, LEADS, READERS, role_in
from annotator.models import Project
from annotator.rendering import render_markdown

register = template.Library()


@register.filter
def percent(value: float | None, digits: int = 0) -> str:
    """0.713 -> 71%; None or nan -> an en dash."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f}%"


@register.filter
def decimals(value: float | None, digits: int = 3) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}"


@register.filter
def seconds(value: float | None) -> str:
    """Durations as people say them: 0.32 s, 8 s, 3 min 20 s, 2 h 5 min."""
    if value is None or math.isnan(value):
        return "–"
    if 0 < value < 0.995:
        return f"{value:.2g} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@register.filter
def thousands(value: int | None) -> str:
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int | float) else "–"


@register.filter
def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def plain(value: Any) -> str:
    """A value of somebody's metadata as it stood in their file: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@register.filter
def ago(moment: datetime) -> str:
    """3 hours ago; under a minute, just now."""
    if timezone.now() - moment < timedelta(minutes=1):
        return gettext("just now")
    return gettext("%(time)s ago") % {"time": timesince(moment)}


@register.filter
def get_item(mapping: Any, key: Any) -> Any:
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def last_content(messages: list[dict[str, Any]] | None) -> str:
    """What was said last in a conversation: what tells prompts apart in a list."""
    return str(messages[-1].get("content", "")) if messages else ""


@register.filter
def is_blank(text: str | None) -> bool:
    """Whether nothing of a text would be seen; a page says so, lest an empty space pass for one that did not load."""
    return not (text or "").strip()


@register.filter
def words(code: str) -> str:
    """no_usable_judgement -> no usable judgement."""
    return str(code).replace("_", " ")


@register.simple_tag
def interval(value: float | None, low: float | None, high: float | None, n: int | None = None) -> SafeString | str:
    """A figure with its 95% interval and n, or why there is none. A row without a figure gives empty texts."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "not enough data"
    rest = format_html(" <span class='n'>n = {}</span>", thousands(n)) if n is not None else ""
    if low is None or high is None:
        return format_html("<b>{}</b>{}", percent(value, 1), rest)
    return format_html(
        "<b>{}</b> <span class='interval'>[{}, {}]</span>{}",
        percent(value, 1),
        percent(low, 1),
        percent(high, 1),
        rest,
    )


@register.filter
def markdown(text: str | None) -> SafeString:
    """Untrusted markdown as sanitised HTML."""
    return render_markdown(text or "")


#: name, label, URL name, roles that see the tab
PROJECT_TABS = (
    ("overview", "Overview", "annotator:project-detail", ANYONE),
    ("queues", "Queues", "annotator:queue-list", ANYONE),
    ("datasets", "Datasets", "annotator:dataset-list", READERS),
    ("snapshots", "Snapshots", "annotator:snapshot-list", READERS),
    ("reward-models", "Reward models", "rmeval:reward-model-list", READERS),
    ("runs", "Runs", "rmeval:run-list", READERS),
    ("leaderboards", "Leaderboards", "rmeval:leaderboard-list", READERS),
    ("members", "Members", "annotator:member-list", LEADS),
)


@register.inclusion_tag("components/project_nav.html", takes_context=True)
def project_nav(context: template.Context, project: Project, active: str) -> dict[str, Any]:
    """Tabs of a project that the reader's role may open."""
    role = role_in(context["request"].user, project)
    tabs = [
        {"name": name, "label": label, "url": reverse(url_name, args=[project.uid])}
        for name, label, url_name, roles in PROJECT_TABS
        if role in roles
    ]
    return {"project": project, "tabs": tabs, "active": active}
