"""The items of a queue as a lead goes through them: narrowed, page by page, each with how far it is."""

from dataclasses import dataclass, field
from typing import Any

from django.contrib.postgres.search import SearchQuery
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from annotator.models import Example, Flag, Item, Queue, Slot
from annotator.selectors.datasets import search_text
from annotator.services.queue_items import BOOST

STATES = ("untouched", "begun", "done")


@dataclass(frozen=True, slots=True)
class ItemFilters:
    """What the items of a queue are narrowed to.

    state: "" any; untouched nobody judged or holds it; done as many judgements as wanted; begun everything between.
    is_next: given out before fresh items, as the order "finish started items first" has it.
    """

    state: str = ""
    is_next: bool = False
    is_flagged: bool = False
    is_gold: bool = False
    search: str = ""

    def __bool__(self) -> bool:
        return bool(self.state or self.is_next or self.is_flagged or self.is_gold or self.search)


@dataclass(frozen=True, slots=True)
class ItemsPage:
    """One keyset page: rows in stored order, and the keys to go on from; 0 where there is nothing more."""

    rows: list[Item] = field(default_factory=list)
    next_after: int = 0
    previous_before: int = 0


def items_page(*, queue: Queue, filters: ItemFilters, after: int = 0, before: int = 0, size: int = 50) -> ItemsPage:
    """Items after (or before) a key, with n_done, n_in_progress, n_open_flags and is_next."""
    found = items_matching(queue=queue, filters=filters)
    backwards = before > 0 and not after
    found = found.filter(pk__lt=before).order_by("-pk") if backwards else found.filter(pk__gt=after).order_by("pk")
    keys = list(found.values_list("pk", flat=True)[: size + 1])
    more = len(keys) > size
    keys = keys[:size][::-1] if backwards else keys[:size]
    if not keys:
        return ItemsPage()
    has_next, has_previous = (True, more) if backwards else (more, after > 0)
    return ItemsPage(_as_table(keys), keys[-1] if has_next else 0, keys[0] if has_previous else 0)


def items_matching(*, queue: Queue, filters: ItemFilters) -> QuerySet[Item]:
    """Each condition looks into the slots or flags of one item, so a page costs what it passes over."""
    found = Item.objects.filter(queue=queue)
    taken = Exists(_slots().filter(state__in=[Slot.State.LEASED, Slot.State.SUBMITTED]))
    wanted = Exists(_slots().filter(state__in=[Slot.State.OPEN, Slot.State.LEASED]))
    conditions: dict[str, list[Any]] = {"untouched": [~taken], "begun": [taken, wanted], "done": [taken, ~wanted]}
    found = found.filter(*conditions.get(filters.state, []))
    if filters.is_next:
        found = found.filter(Exists(_boosted()))
    if filters.is_flagged:
        found = found.filter(Exists(Flag.objects.filter(item=OuterRef("pk"), resolved_at=None)))
    if filters.is_gold:
        found = found.filter(is_gold=True)
    if query := search_text(filters.search):
        matches = SearchQuery(query, config="simple", search_type="websearch")
        found = found.filter(example__in=Example.objects.filter(dataset=queue.dataset_id, search__vector=matches))
    return found


def _slots() -> QuerySet[Slot]:
    return Slot.objects.filter(item=OuterRef("pk"), stage=0)


def _boosted() -> QuerySet[Slot]:
    return _slots().filter(state=Slot.State.OPEN, priority__gte=BOOST)


def _as_table(keys: list[int]) -> list[Item]:
    n_done, n_in_progress = (
        Count("slots", filter=Q(slots__state=state, slots__stage=0), distinct=True)
        for state in (Slot.State.SUBMITTED, Slot.State.LEASED)
    )
    counts: dict[str, Any] = {
        "n_done": n_done,
        "n_in_progress": n_in_progress,
        "n_open_flags": Count("flags", filter=Q(flags__resolved_at=None), distinct=True),
        "is_next": Exists(_boosted()),
    }
    return list(Item.objects.filter(pk__in=keys).select_related("example").annotate(**counts).order_by("pk"))
