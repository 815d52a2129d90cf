"""Agreement of a queue: the figures by hand and by another package, and what a page shows to whom."""

import krippendorff
import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from annotator.models import Judgement, Queue, Role
from annotator.plots import interval_plot
from annotator.selectors.agreement import agreement_detail, confusion, measure, queue_agreement
from annotator.services.snapshot_rows import rater_pseudonym
from tests.factories import ItemFactory, JudgementFactory, QueueFactory, RaterFactory, member

pytestmark = pytest.mark.django_db
CODES = {"a": 0, "b": 1, "tie": 2, "both_bad": 3}


def judge(queue: Queue, table: list[list[tuple[str | None, int | None] | None]]) -> list[list[Judgement]]:
    """Rows are items, columns raters."""
    raters = [RaterFactory() for _ in table[0]]
    made = []
    for row in table:
        item = ItemFactory(queue=queue)
        given_to = zip(raters, row, strict=True)
        made.append(
            [JudgementFactory(item=item, rater=r, verdict=v[0], preference_strength=v[1]) for r, v in given_to if v]
        )
    return made


@pytest.fixture
def queue() -> Queue:
    return QueueFactory()


def test_figures_match_another_package(queue: Queue) -> None:
    a3, a1, b2, tie, bad = ("a", 3), ("a", 1), ("b", 2), ("tie", None), ("both_bad", None)
    judge(
        queue,
        [
            [a3, a1, None],
            [a1, b2, a1],
            [tie, tie, b2],
            [bad, bad, bad],
            [b2, b2, b2],
            [a3, None, None],
            [a3, (None, None), b2],
        ],
    )
    found = queue_agreement(queue=queue)
    nan = np.nan
    verdicts = [[0, 0, 2, 3, 1, 0, 0], [0, 1, 2, 3, 1, nan, nan], [nan, 0, 1, 3, 1, nan, 1]]
    assert found.alpha.value == pytest.approx(krippendorff.alpha(verdicts, level_of_measurement="nominal"))
    strengths = [[3, 1, 0, nan, -2, 3, 3], [1, -2, 0, nan, -2, nan, nan], [nan, 1, -2, nan, -2, nan, -2]]
    assert found.ordinal_alpha.value == pytest.approx(krippendorff.alpha(strengths, level_of_measurement="ordinal"))
    assert found.percent_agreement.value == pytest.approx((1 + 1 + 1 + 3 + 3 + 0) / (1 + 3 + 3 + 3 + 3 + 1))
    assert found.alpha.low < found.alpha.value < found.alpha.high
    assert (found.n_items, found.n_raters, found.n_judgements, found.n_single, found.n_cannot_judge) == (6, 3, 17, 1, 1)
    assert found.alpha.n == 6


def test_not_enough_overlap_is_said_in_words(queue: Queue) -> None:
    empty = queue_agreement(queue=queue)
    assert empty.alpha.value is None
    assert "not enough overlap" in empty.reason
    judge(queue, [[("a", None), ("b", None)], [("a", None), None]])
    found = queue_agreement(queue=queue)
    assert "1 item has two or more" in found.reason
    assert found.percent_agreement.value is None
    assert found.n_single == 1


def test_one_verdict_only_has_no_alpha_but_a_percentage(queue: Queue) -> None:
    judge(queue, [[("a", None), ("a", None)]] * 3)
    found = queue_agreement(queue=queue)
    assert found.percent_agreement.value == 1.0
    assert found.alpha.value is None
    assert "same value" in found.reason
    assert found.ordinal_alpha is None


def test_surplus_and_superseded_judgements_do_not_count(queue: Queue) -> None:
    made = judge(queue, [[("a", None), ("a", None)], [("b", None), ("b", None)]])
    assert queue_agreement(queue=queue).alpha.value == pytest.approx(1.0)
    old = made[0][0]
    Judgement.objects.filter(pk=old.pk).update(is_current=False)
    JudgementFactory(item=old.item, rater=old.rater, assignment=old.assignment, version=2, verdict="b")
    JudgementFactory(item=old.item, verdict="tie", is_surplus=True)
    changed = queue_agreement(queue=queue)
    assert changed.alpha.value < 1
    assert changed.n_judgements == 4


def test_pairs_confusion_and_disputes(queue: Queue) -> None:
    a, b, tie = ("a", None), ("b", None), ("tie", None)
    made = judge(queue, [[a, a, b], [a, a, None], [b, tie, None], [a, a, a]])
    detail = agreement_detail(queue=queue, with_names=False)
    first, second, third = (rater_pseudonym(queue.project.uid, j.rater.uid) for j in made[0])
    assert detail.raters == [first, second, third]
    assert (detail.pairs[0][1].n, detail.pairs[0][1].share) == (4, 0.75)
    assert (detail.pairs[0][2].n, detail.pairs[0][2].share) == (2, 0.5)
    assert detail.pairs[1][1] is None
    assert detail.confusion == [[5, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert [(item.pk, votes) for item, votes in detail.disputed] == [
        (made[2][0].item_id, {"b": 1, "tie": 1}),
        (made[0][0].item_id, {"a": 2, "b": 1}),
    ]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 3)), unique_by=lambda row: row[:2]))
def test_swapping_a_and_b_changes_no_figure(rows: list[tuple[int, int, int]]) -> None:
    swap = {0: 1, 1: 0, 2: 2, 3: 3}
    strength = {0: 2, 1: -2, 2: 0, 3: 9}
    table = np.array([(*row, strength[row[2]]) for row in rows], dtype=np.int64).reshape(-1, 4)
    mirrored = np.array([(i, r, swap[v], strength[swap[v]]) for i, r, v in rows], dtype=np.int64).reshape(-1, 4)
    one, other = measure(table, seed=1), measure(mirrored, seed=1)
    for name in ("alpha", "percent_agreement"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value, nan_ok=True)
    if one.ordinal_alpha and one.ordinal_alpha.value is not None:
        assert one.ordinal_alpha.value == pytest.approx(other.ordinal_alpha.value)
    pairs = np.array(confusion(table))
    assert (pairs == pairs.T).all()


def test_api_and_page(queue: Queue, client: Client) -> None:
    made = judge(queue, [[("a", 1), ("b", 1)], [("b", 2), ("b", 3)], [("tie", None), ("tie", None)]])
    lead, viewer = member(queue.project), member(queue.project, Role.VIEWER)
    client.force_login(viewer)
    body = client.get(reverse("annotator-api:queue-agreement", args=[queue.uid])).json()
    assert set(body["alpha"]) == {"value", "low", "high", "n", "n_ratings", "reason"}
    assert body["alpha"]["n"] == body["n_items"] == 3
    url = reverse("annotator:queue-agreement", args=[queue.uid])
    name = made[0][0].rater.user.username
    page = client.get(url).content.decode()
    assert name not in page
    assert name not in client.get(f"{url}?names=1").content.decode()
    assert rater_pseudonym(queue.project.uid, made[0][0].rater.uid) in page
    assert reverse("annotator:example-detail", args=[made[0][0].item.example.uid]) in page
    client.force_login(lead)
    assert name not in client.get(url).content.decode()  # a lead asks for names, as on the queue's page
    assert name in client.get(f"{url}?names=1").content.decode()
    assert "<html" not in client.get(url, headers={"HX-Request": "true"}).content.decode()


def test_page_without_overlap_says_so(queue: Queue, client: Client) -> None:
    client.force_login(member(queue.project))
    page = client.get(reverse("annotator:queue-agreement", args=[queue.uid])).content.decode()
    assert page.lower().count("not enough overlap") == 1
    body = client.get(reverse("annotator-api:queue-agreement", args=[queue.uid])).json()
    assert body["alpha"]["value"] is None
    assert "not enough overlap" in body["reason"]


def test_plot_stays_inside_its_frame() -> None:
    plot = interval_plot([("alpha", -0.35, -0.61, 0.1), ("percent", 1.0, None, None)])
    places = [x for mark in plot.marks for x in (mark.low, mark.x, mark.high)] + [x for x, _ in plot.ticks]
    assert all(plot.left <= x <= plot.width for x in places)
    assert plot.ticks[0][1] == "-0.8"
    assert plot.ticks[-1][1] == "1.0"
    assert interval_plot([]) is None
