"""Keyset pages of lists that are ordered newest first: cheap at any depth."""

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest


@dataclass(frozen=True)
class KeysetPage:
    rows: list[Any]
    next_url: str
    previous_url: str


def keyset_page(rows: "QuerySet[Any]", request: HttpRequest, *, size: int) -> KeysetPage:
    """One page of `rows` by ?before= (older) or ?after= (newer) a primary key."""
    before, after = as_pk(request.GET.get("before")), as_pk(request.GET.get("after"))
    if after:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
        has_newer, has_older = len(found) > size, True
        shown = found[:size][::-1]
    else:
        older = rows.filter(pk__lt=before) if before else rows
        found = list(older.order_by("-pk")[: size + 1])
        has_newer, has_older = bool(before), len(found) > size
        shown = found[:size]
    if not shown:
        return KeysetPage([], "", "")
    return KeysetPage(
        shown,
        next_url=with_query(request, before=shown[-1].pk) if has_older else "",
        previous_url=with_query(request, after=shown[0].pk) if has_newer else "",
    )


def as_pk(text: str | None) -> int:
    """0 for anything that is no key: a mangled link shows the first page."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def with_query(request: HttpRequest, **changes: object) -> str:
    """The present address with other query values; both ends of a page are dropped first."""
    query = request.GET.copy()
    for name in ("before", "after", "part"):
        query.pop(name, None)
    for name, value in changes.items():
        query[name] = str(value)
    return f"{request.path}?{query.urlencode()}"
