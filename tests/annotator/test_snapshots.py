"""Cutting snapshots: what is frozen, what is left out, and a hash that repeats."""

import hashlib
from datetime import timedelta

import orjson
import pytest
from django.utils import timezone
from hypothesis import given

from annotator.errors import DomainError, InvalidInput
from annotator.models import Judgement, Queue, Snapshot
from annotator.selectors.snapshots import format_counts, snapshot_records
from annotator.services.snapshot_rows import SnapshotFilter, SourceItem, Tally, rater_pseudonym, rows_of
from annotator.services.snapshots import (
    canonical_head,
    snapshot_create,
    snapshot_cut,
    snapshot_finish,
    sweep_snapshots,
)
from annotator.tasks import snapshot_cut_task
from tests import strategies
from tests.factories import (
    AssignmentFactory,
    ExampleFactory,
    ItemFactory,
    JudgementFactory,
    QueueFactory,
    RaterFactory,
    member,
)

pytestmark = pytest.mark.django_db


def cut(queue: Queue, **values: object) -> Snapshot:
    return snapshot_cut(queue=queue, created_by=None, now=timezone.now(), **values)


def judged(queue: Queue, *verdicts: str | None, raters: list | None = None, **values: object) -> list[Judgement]:
    """One item judged by as many raters as there are verdicts."""
    item = ItemFactory(queue=queue)
    raters = raters or [RaterFactory() for _ in verdicts]
    return [
        JudgementFactory(item=item, rater=rater, verdict=verdict, **values)
        for rater, verdict in zip(raters, verdicts, strict=False)
    ]


@pytest.fixture
def queue() -> Queue:
    return QueueFactory()


def test_majority_takes_the_most_frequent_verdict_and_its_strength(queue: Queue) -> None:
    item = ItemFactory(queue=queue)
    for verdict, strength in (("a", 1), ("a", 3), ("b", 2)):
        JudgementFactory(item=item, verdict=verdict, preference_strength=strength)
    snapshot = cut(queue)
    row = snapshot.rows.get()
    assert (row.verdict, row.preference_strength) == ("a", 1)
    assert row.shares == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    assert (row.item, row.response_a_id, row.response_b_id) == (item, item.response_a_id, item.response_b_id)
    assert len(row.judgements) == 3
    assert snapshot.counts["judgements"] == {"total": 3, "used": 3, "left_out": {}}


def test_split_vote_is_kept_as_undecided(queue: Queue) -> None:
    judged(queue, "a", "b")
    snapshot = cut(queue)
    assert snapshot.rows.get().verdict is None
    assert snapshot.counts["rows"] == {"a": 0, "b": 0, "tie": 0, "both_bad": 0, "undecided": 1}


def test_each_keeps_every_judgement(queue: Queue) -> None:
    judged(queue, "a", "b", "tie")
    assert [row.verdict for row in cut(queue, aggregation="each").rows.order_by("position")] == ["a", "b", "tie"]


def test_what_is_left_out_is_counted_with_its_reason(queue: Queue) -> None:
    judged(queue, "a", None)
    judged(queue, None)
    judged(queue, "b", is_surplus=True)
    ItemFactory(queue=queue)
    snapshot = cut(queue)
    assert snapshot.n_rows == 1
    assert snapshot.counts["items"] == {
        "total": 4,
        "used": 1,
        "left_out": {"no_usable_judgement": 2, "not_judged": 1},
    }
    assert snapshot.counts["judgements"] == {"total": 4, "used": 1, "left_out": {"cannot_judge": 2, "surplus": 1}}


def test_only_the_current_version_counts(queue: Queue) -> None:
    (first,) = judged(queue, "a")
    Judgement.objects.filter(pk=first.pk).update(is_current=False)
    JudgementFactory(item=first.item, rater=first.rater, assignment=first.assignment, version=2, verdict="b")
    row = cut(queue).rows.get()
    assert (row.verdict, row.judgements[0]["version"]) == ("b", 2)


def test_frozen_judgement_says_who_how_and_under_what(queue: Queue) -> None:
    item, rater = ItemFactory(queue=queue), RaterFactory()
    assignment = AssignmentFactory(item=item, rater=rater, a_is_left=False, state="submitted")
    answer = {"verdict": "a", "pressed": "right", "reasons": ["clear"], "justification": "It is right."}
    JudgementFactory(
        item=item,
        rater=rater,
        assignment=assignment,
        verdict="a",
        answers={"preference": answer, "note": {"text": "x"}},
    )
    (frozen,) = cut(queue).rows.get().judgements
    assert frozen["rater"] == rater_pseudonym(queue.project.uid, rater.uid)
    assert frozen["left"] == "b"
    assert (frozen["justification"], frozen["reasons"]) == ("It is right.", ["clear"])
    assert (frozen["form_version"], frozen["guidelines_version"], frozen["active_s"]) == (1, 1, 12.5)
    assert frozen["answers"] == {"note": {"text": "x"}}
    assert frozen["submitted_at"].endswith("Z")
    assert rater.user.username not in str(frozen)


def test_pseudonym_is_stable_in_a_project_and_differs_between_projects() -> None:
    rater, one, other = RaterFactory(), QueueFactory().project, QueueFactory().project
    assert rater_pseudonym(one.uid, rater.uid) == rater_pseudonym(one.uid, rater.uid)
    assert rater_pseudonym(one.uid, rater.uid) != rater_pseudonym(other.uid, rater.uid)


def test_same_state_gives_the_same_hash(queue: Queue) -> None:
    judged(queue, "a", "a")
    judged(queue, "b")
    first, again = cut(queue), cut(queue, filter={})
    assert first.sha256 == again.sha256
    assert len(first.sha256) == 64
    assert (first.number, again.number) == (1, 2)
    same = cut(queue, filter={"verdicts": ["b", "a", "b"]})
    assert same.sha256 == cut(queue, filter={"verdicts": ["a", "b"]}).sha256 != first.sha256
    judged(queue, "a")
    assert cut(queue).sha256 != first.sha256
    assert cut(queue, aggregation="each").sha256 != first.sha256


def test_hash_covers_the_texts(queue: Queue) -> None:
    (judgement,) = judged(queue, "a")
    before = cut(queue).sha256
    response = judgement.item.response_a
    response.messages = [{"role": "assistant", "content": "changed behind our back"}]
    response.save()
    assert cut(queue).sha256 != before


@pytest.mark.parametrize(
    ("chosen", "verdicts"),
    [
        ({"verdicts": ["a"]}, ["a", "a"]),
        ({"min_judgements": 2}, ["a"]),
        ({"exclude_flagged": True}, ["a", "b"]),
        ({"since": "2026-01-02T00:00:00+01:00"}, ["a", "a"]),
    ],
)
def test_filters(queue: Queue, chosen: dict, verdicts: list[str]) -> None:
    judged(queue, "a", "a")
    (old,) = judged(queue, "b")
    Judgement.objects.filter(pk=old.pk).update(created_at="2025-06-01T00:00:00Z")
    (flagged,) = judged(queue, "a")
    flagged.item.flags.create(rater=flagged.rater, detail="broken")
    resolved = old.item.flags.create(rater=old.rater, detail="was broken", resolved_at=timezone.now())
    assert resolved.pk
    assert [row.verdict for row in cut(queue, filter=chosen).rows.order_by("position")] == verdicts


def test_filter_by_rater(queue: Queue) -> None:
    one, other = RaterFactory(), RaterFactory()
    judged(queue, "a", "b", raters=[one, other])
    chosen = {"raters": [rater_pseudonym(queue.project.uid, other.uid)]}
    snapshot = cut(queue, filter=chosen)
    assert snapshot.rows.get().verdict == "b"
    assert snapshot.counts["judgements"]["left_out"] == {"other_rater": 1}


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"filter": {"verdict": ["a"]}}, "/filter/verdict"),
        ({"filter": {"verdicts": ["c"]}}, "/filter/verdicts/0"),
        ({"filter": {"verdicts": []}}, "/filter/verdicts"),
        ({"filter": {"min_judgements": 0}}, "/filter/min_judgements"),
        ({"filter": {"since": "2026-01-02T00:00:00"}}, "/filter/since"),
        ({"filter": {"raters": ["r-nobody"]}}, "/filter/raters"),
        ({"filter": ["a"]}, "/filter"),
        ({"aggregation": "median"}, "/aggregation"),
    ],
)
def test_wrong_input_is_pointed_at(queue: Queue, values: dict, pointer: str) -> None:
    judged(queue, "a")
    with pytest.raises(InvalidInput) as caught:
        cut(queue, **values)
    assert caught.value.errors[0].pointer == pointer
    assert not Snapshot.objects.exists()


def test_nothing_to_freeze_says_why_and_leaves_nothing(queue: Queue) -> None:
    judged(queue, None)
    with pytest.raises(DomainError) as caught:
        cut(queue)
    assert caught.value.code == "empty_snapshot"
    assert "cannot judge 1" in caught.value.detail
    assert not Snapshot.objects.exists()


def test_idempotency_key_gives_the_first_snapshot_again(queue: Queue) -> None:
    judged(queue, "a")
    first = cut(queue, idempotency_key="once")
    judged(queue, "b")
    assert cut(queue, idempotency_key="once") == first
    with pytest.raises(DomainError) as caught:
        cut(queue, idempotency_key="once", aggregation="each")
    assert caught.value.code == "key_reused"
    assert queue.snapshots.count() == 1


def test_big_queue_is_cut_by_the_task_and_twice_is_once(queue: Queue) -> None:
    judged(queue, "a")
    snapshot, is_new = snapshot_create(queue=queue, created_by=None, now=timezone.now())
    assert is_new
    assert snapshot.state == Snapshot.State.CUTTING
    snapshot_cut_task(str(snapshot.uid))
    snapshot_cut_task(str(snapshot.uid))
    snapshot.refresh_from_db()
    assert (snapshot.state, snapshot.n_rows, snapshot.rows.count()) == ("ready", 1, 1)
    assert snapshot.sha256 == cut(queue).sha256


def test_background_failure_is_told_on_the_row(queue: Queue) -> None:
    snapshot, _ = snapshot_create(queue=queue, created_by=None, now=timezone.now())
    snapshot_finish(snapshot=snapshot)
    snapshot.refresh_from_db()
    assert snapshot.state == Snapshot.State.FAILED
    assert "nothing to freeze" in snapshot.failure


def test_lost_wake_up_is_asked_for_again(queue: Queue) -> None:
    now = timezone.now()
    snapshot, _ = snapshot_create(queue=queue, created_by=None, now=now)
    assert sweep_snapshots(now=now) == []
    later = now + timedelta(minutes=3)
    assert sweep_snapshots(now=later) == [snapshot]
    assert sweep_snapshots(now=later) == []


def test_records_and_counts_by_format(queue: Queue) -> None:
    for verdict in ("a", "b", "tie", "both_bad"):
        judged(queue, verdict)
    judged(queue, "a", "b")
    snapshot = cut(queue)
    records = list(snapshot_records(snapshot=snapshot))
    assert [record.verdict for record in records] == ["a", "b", "tie", "both_bad", None]
    assert records[4].share_a == records[4].share_b == 0.5
    by_label = {row["label"]: row for row in format_counts(snapshot=snapshot)}
    assert by_label["trl-preference"]["n_rows"] == 2
    assert by_label["trl-preference"]["left_out"] == {"tie": 1, "both_bad": 1, "undecided": 1}
    assert by_label["trl-unpaired"]["n_rows"] == 6
    assert by_label["raw"]["n_rows"] == 6


def test_members_work_outlives_their_membership(queue: Queue) -> None:
    user = member(queue.project, "annotator")
    judged(queue, "a", raters=[RaterFactory(user=user)])
    before = cut(queue).sha256
    user.memberships.all().delete()
    assert cut(queue).sha256 == before


@pytest.mark.parametrize("active_s", [12.0, 0.1, 1e15, 1e-7])
def test_hash_is_that_of_what_is_stored(queue: Queue, active_s: float) -> None:
    """Numbers, texts and answers enter the hash as the database gives them back."""
    answer = {"verdict": "a", "justification": 'tab\t, \\ and "', "reasons": ["日本"]}
    judged(queue, "a", active_s=active_s, answers={"preference": answer, "note": {"n": 1.0}})
    snapshot = cut(queue)
    digest = hashlib.sha256(canonical_head(snapshot))
    for row in snapshot.rows.select_related("item", "example", "response_a", "response_b"):
        body = {
            "item": str(row.item.uid),
            "example": str(row.example.uid),
            "prompt": row.example.prompt,
            "response_a": row.response_a.messages,
            "response_b": row.response_b.messages,
            "verdict": row.verdict,
            "preference_strength": row.preference_strength,
            "shares": {"a": 1.0},
            "judgements": row.judgements,
        }
        digest.update(orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
    (stored,) = snapshot.rows.get().judgements
    assert (stored["justification"], stored["active_s"]) == (answer["justification"], active_s)
    assert digest.hexdigest() == snapshot.sha256


@given(table=strategies.judgement_tables)
def test_every_judgement_is_used_or_left_out_and_swapping_sides_swaps_verdicts(table: dict) -> None:
    """Pure: no database rows are made."""
    swap = {"a": "b", "b": "a"}

    def cut_of(swapped: bool) -> tuple[Tally, list[str | None]]:
        tally, verdicts = Tally(), []
        for item, given_by in table.items():
            judgements = [
                {
                    "rater": f"r-{rater}",
                    "verdict": swap.get(verdict, verdict) if swapped else verdict,
                    "preference_strength": None,
                    "is_surplus": False,
                    "submitted_at": "2026-01-01T00:00:00.000000Z",
                }
                for rater, verdict in given_by.items()
            ]
            source = SourceItem(item, str(item), 1, "e", 1, 2, b"[]", b"[]", b"[]", False, judgements)
            verdicts += [row.verdict for row in rows_of(source, SnapshotFilter(), "majority", tally)]
        return tally, verdicts

    tally, verdicts = cut_of(swapped=False)
    _, mirrored = cut_of(swapped=True)
    assert tally.n_judgements == tally.n_judgements_used + sum(tally.judgements_left_out.values())
    assert [swap.get(verdict, verdict) for verdict in verdicts] == mirrored


def test_order_of_rows_follows_the_items(queue: Queue) -> None:
    example = ExampleFactory(dataset=queue.dataset)
    items = [ItemFactory(queue=queue, example=example) for _ in range(5)]
    for item in reversed(items):
        JudgementFactory(item=item)
    assert [row.item_id for row in cut(queue).rows.order_by("position")] == [item.pk for item in items]
