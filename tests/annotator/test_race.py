"""Many threads against real PostgreSQL: nobody meets an item twice, no slot over-filled, every submit counts once."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone

from annotator.errors import DomainError
from annotator.models import Assignment, Judgement, Queue, QueueRater, Rater, Slot
from annotator.services.assignments import assignment_claim, assignment_renew, assignment_skip
from annotator.services.judgements import judgement_reopen, judgement_submit
from annotator.services.queues import queue_overlap_set
from annotator.services.sweep import leases_expire
from tests.annotator.queue_helpers import answer, held, queue_of, raters, submit

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 32


def together(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work(0..n-1) at the same moment; each thread has its own connection. Exceptions are raised here."""
    gate = threading.Barrier(n)

    def run(number: int) -> Any:
        try:
            gate.wait(30)
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def check_invariants(queue: Queue, submitted: int | None = None) -> None:
    current = Judgement.objects.filter(queue=queue, is_current=True)
    assert not current.values("item", "rater").annotate(n=Count("pk")).filter(n__gt=1).exists()
    counted = current.filter(is_surplus=False).values("item").annotate(n=Count("pk"))
    assert not counted.filter(n__gt=queue.overlap).exists()
    filled = Slot.objects.filter(queue=queue, state=Slot.State.SUBMITTED)
    assert filled.count() == current.filter(is_surplus=False).count()
    assert (
        not Slot.objects.filter(queue=queue, rater__isnull=False)
        .values("item", "rater")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    sums = Counter[str]()
    for row in QueueRater.objects.filter(queue=queue):
        sums.update(submitted=row.n_submitted, surplus=row.n_surplus)
    assert sums["submitted"] == filled.count()
    assert sums["surplus"] == current.filter(is_surplus=True).count()
    if submitted is not None:
        assert current.count() == submitted


def test_claims_submits_and_expiries_of_32_threads() -> None:
    queue, people = queue_of(60, overlap=3), raters(16)
    sent: list[str] = []

    def work(number: int) -> int:
        """Two threads a rater: claim, sometimes crash, sweep, renew or skip, else submit (sometimes late or twice)."""
        rater, rng = people[number % 16], random.Random(number)
        for _ in range(14):
            step(queue, rater, rng, sent)
        return number

    together(THREADS, work)
    # An answer that its rater has just reopened holds its slot as a lease; once that ends it counts again as it was.
    leases_expire(now=timezone.now() + timedelta(days=1))
    check_invariants(queue)
    keys = set(Judgement.objects.filter(queue=queue).values_list("idempotency_key", flat=True))
    assert keys == set(sent), "a submit that got an answer is missing, or one is there that got none"
    assert len(sent) > 60


def step(queue: Queue, rater: Rater, rng: random.Random, sent: list[str]) -> None:
    assignment = assignment_claim(queue=queue, rater=rater, now=timezone.now(), rng=rng)
    chance = rng.random()
    if assignment is None or chance < 0.1:
        return
    assignment = Assignment.objects.select_related("queue", "form_version", "rater").get(pk=assignment.pk)
    if chance < 0.3:
        leases_expire(now=timezone.now() + timedelta(minutes=rng.choice([0, 11])), batch=5)
    if 0.25 < chance < 0.35:
        assignment_renew(assignment=assignment, now=timezone.now())
    try:
        if chance > 0.95:
            assignment_skip(assignment=assignment, reason="other", now=timezone.now())
            return
        key = uuid.uuid4().hex
        for _ in range(rng.choice([1, 1, 2])):
            judgement_submit(
                assignment=assignment, answers=answer(), active_seconds=1, idempotency_key=key, now=timezone.now()
            )
        sent.append(key)
        if chance > 0.9:
            judgement_reopen(assignment=assignment, now=timezone.now(), window=timedelta(minutes=5))
    except DomainError as error:
        if error.code not in {"already_submitted", "skipped", "already_answered", "not_last", "surplus"}:
            raise


def test_a_crowd_drains_a_queue_exactly() -> None:
    queue, people = queue_of(40, overlap=4), raters(THREADS)

    def work(number: int) -> int:
        n = 0
        while True:
            found = assignment_claim(
                queue=queue, rater=people[number], now=timezone.now(), rng=random.Random(number * 1000 + n)
            )
            if found is None:
                return n
            submit(Assignment.objects.select_related("queue", "form_version").get(pk=found.pk), now=timezone.now())
            n += 1

    done = together(THREADS, work)
    assert sum(done) == 160
    check_invariants(queue, submitted=160)


def test_twenty_identical_submits_make_one_row_and_one_answer() -> None:
    queue, (rater,) = queue_of(2), raters(1)
    assignment = held(queue, rater, now=timezone.now())
    found = together(20, lambda _: submit(Assignment.objects.get(pk=assignment.pk), key="same", now=timezone.now()).uid)
    assert len(set(found)) == 1
    check_invariants(queue, submitted=1)


def test_two_tabs_get_the_same_item() -> None:
    queue, (rater,) = queue_of(20), raters(1)
    found = together(8, lambda n: held(queue, rater, now=timezone.now(), seed=n).pk)
    assert len(set(found)) == 1
    assert Slot.objects.filter(queue=queue, state=Slot.State.LEASED).count() == 1


def test_one_slot_is_given_to_one_of_many() -> None:
    queue, people = queue_of(1), raters(THREADS)
    found = together(
        THREADS,
        lambda n: assignment_claim(queue=queue, rater=people[n], now=timezone.now(), rng=random.Random(n)),
    )
    assert len([a for a in found if a]) == 1


def test_late_submit_against_a_new_claim() -> None:
    """Whoever is first has the slot; the other's answer is surplus, or their claim finds nothing."""
    for _ in range(5):
        queue, (slow, quick) = queue_of(1), raters(2)
        late = held(queue, slow, now=timezone.now())
        leases_expire(now=timezone.now() + timedelta(hours=1))

        def race(number: int, queue: Queue = queue, late: Assignment = late, quick: Rater = quick) -> None:
            if number == 0:
                submit(Assignment.objects.get(pk=late.pk), now=timezone.now())
            else:
                found = assignment_claim(queue=queue, rater=quick, now=timezone.now(), rng=random.Random(1))
                if found:
                    submit(found, now=timezone.now())

        together(2, race)
        check_invariants(queue)


def test_overlap_shrinks_while_people_claim() -> None:
    """The lead's change waits for slots that claims hold; neither may wait for the other in a circle."""
    queue, people = queue_of(30, overlap=5), raters(16)

    def work(number: int) -> None:
        if number == 0:
            for overlap in (2, 4, 1, 3, 1, 5, 2):
                queue_overlap_set(queue=Queue.objects.get(pk=queue.pk), overlap=overlap, actor=None)
            return
        for n in range(6):
            found = assignment_claim(queue=queue, rater=people[number], now=timezone.now(), rng=random.Random(n))
            if found:
                submit(found, now=timezone.now())

    together(16, work)
    held_slots = Q(slots__state__in=[Slot.State.SUBMITTED, Slot.State.LEASED])
    for item in queue.items.annotate(n=Count("slots", filter=held_slots)):
        assert item.n <= 5
    assert Judgement.objects.filter(queue=queue).count() == Slot.objects.filter(state=Slot.State.SUBMITTED).count()


def test_a_change_of_overlap_and_an_unfinished_claim_do_not_deadlock() -> None:
    queue, (first, rater) = queue_of(1, overlap=3), raters(2)
    submit(held(queue, first, now=timezone.now()), now=timezone.now())
    leased, waiting = threading.Event(), threading.Event()

    def claim_slowly() -> None:
        with transaction.atomic():
            assignment_claim(queue=queue, rater=rater, now=timezone.now(), rng=random.Random(1))
            leased.set()
            waiting.wait(20)
            time.sleep(0.3)  # until the other really stands at the slot

    def shrink() -> None:
        leased.wait(20)
        waiting.set()
        queue_overlap_set(queue=Queue.objects.get(pk=queue.pk), overlap=1, actor=None)

    together(2, lambda number: shrink() if number else claim_slowly())
    assert Slot.objects.filter(queue=queue, state=Slot.State.LEASED).count() == 1
