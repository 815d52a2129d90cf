"""The Items tab: filters in the query string, pages both ways, and what it says when there is nothing to show."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotator.models import Item, Queue, Role
from annotator.selectors.items import ItemFilters, items_matching, items_page
from annotator.services.assignments import assignment_flag, flag_resolve
from annotator.services.search import index_fill
from annotator.views import queues as views
from tests.annotator.queue_helpers import held, queue_of, raters, submit
from tests.factories import member

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    """Six items for two raters each, started ones first: one is done, one begun, one held, three untouched."""
    queue = queue_of(6, overlap=2, order_policy="depth", now=timezone.now())
    first, second, third = raters(3)
    for rater in (first, second):
        submit(held(queue, rater), now=timezone.now())
    submit(held(queue, first), now=timezone.now())
    held(queue, first)
    assert third
    return queue


@pytest.fixture
def lead(queue: Queue) -> Client:
    client = Client()
    client.force_login(member(queue.project, Role.LEAD))
    return client


def found(queue: Queue, **filters: Any) -> set[int]:
    return set(items_matching(queue=queue, filters=ItemFilters(**filters)).values_list("pk", flat=True))


def shown(page: str) -> list[str]:
    return re.findall(r'href="/examples/([0-9a-f-]{36})/"', page)


def test_states_part_the_items(queue: Queue) -> None:
    parts = [found(queue, state=state) for state in ("untouched", "begun", "done")]
    assert [len(part) for part in parts] == [3, 2, 1]
    assert set.union(*parts) == found(queue)


def test_next_are_the_begun_items_with_an_open_slot(queue: Queue) -> None:
    begun = found(queue, is_next=True)
    assert begun
    assert begun <= found(queue, state="begun")
    assert not found(queue_of(3, overlap=2, order_policy="breadth"), is_next=True)


def test_flags_gold_and_text(queue: Queue) -> None:
    assignment = held(queue, raters(1)[0])
    flag = assignment_flag(assignment=assignment, detail="odd")
    assert found(queue, is_flagged=True) == {assignment.item_id}
    flag_resolve(flag=flag, now=timezone.now())
    assert not found(queue, is_flagged=True)
    gold = queue.items.order_by("pk")[1]
    Item.objects.filter(pk=gold.pk).update(is_gold=True)
    assert found(queue, is_gold=True) == {gold.pk}
    example = gold.example
    example.prompt = [{"role": "user", "content": "a zebra crossing"}]
    example.save(update_fields=["prompt"])
    index_fill(dataset=queue.dataset)
    assert found(queue, search="zebra -horse") == {gold.pk}
    assert not found(queue, search="zebra", state="done") - found(queue, state="done")


def test_pages_lead_forward_and_back_within_the_filter() -> None:
    queue = queue_of(7)
    keys = list(queue.items.order_by("pk").values_list("pk", flat=True))

    def page(**at: int) -> tuple[list[int], int, int]:
        found = items_page(queue=queue, filters=ItemFilters(state="untouched"), size=3, **at)
        return [item.pk for item in found.rows], found.next_after, found.previous_before

    assert page() == (keys[:3], keys[2], 0)
    assert page(after=keys[2]) == (keys[3:6], keys[5], keys[3])
    assert page(after=keys[5]) == (keys[6:], 0, keys[6])
    assert page(before=keys[6]) == (keys[3:6], keys[5], keys[3])
    assert page(before=keys[3]) == (keys[:3], keys[2], 0)
    assert page(after=keys[6]) == ([], 0, 0)


def test_page_keeps_its_filters_when_turned(lead: Client, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ITEMS_PAGE", 2)
    first = lead.get(f"/queues/{queue.uid}/items/?state=untouched").content.decode()
    assert 'rel="prev"' not in first
    forward = re.search(r'rel="next" href="(\?[^"]+)"', first)
    assert forward
    assert "state=untouched" in forward[1]
    second = lead.get(f"/queues/{queue.uid}/items/{forward[1].replace('&amp;', '&')}").content.decode()
    assert (len(shown(first)), len(shown(second))) == (2, 1)
    back = re.search(r'rel="prev" href="(\?[^"]+)"', second)
    assert back
    again = lead.get(f"/queues/{queue.uid}/items/{back[1].replace('&amp;', '&')}").content.decode()
    assert shown(again) == shown(first)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=done&flagged=on", "No item of this queue fits"),
        ("after=999999999", "No more items"),
        ("state=nonsense", "Select a valid choice"),
        ("q=zebra", "The search index is being built"),
    ],
)
def test_what_the_page_says(lead: Client, queue: Queue, query: str, said: str) -> None:
    response = lead.get(f"/queues/{queue.uid}/items/?{query}")
    assert response.status_code == 200
    assert said in response.content.decode()


def test_gold_is_offered_where_there_is_gold(lead: Client, queue: Queue) -> None:
    address = f"/queues/{queue.uid}/items/"
    assert 'name="gold"' not in lead.get(address).content.decode()
    Item.objects.filter(pk=queue.items.latest("pk").pk).update(is_gold=True)
    assert 'name="gold"' in lead.get(address).content.decode()


def test_a_place_that_is_no_number_is_refused(lead: Client, queue: Queue) -> None:
    assert lead.get(f"/queues/{queue.uid}/items/?before=x").status_code == 422
