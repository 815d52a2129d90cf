"""Periodic upkeep of queues: leases that ran out, and queues whose builder died."""

from datetime import datetime, timedelta
from functools import partial

from django.db import connection, transaction

from annotator.live import poke
from annotator.models import Queue
from annotator.services.queue_items import slots_trim

BATCH = 500
ASK_AGAIN_AFTER = timedelta(minutes=1)

# Drafts stay. A reopened answer whose lease ran out simply counts again as it was.
EXPIRE = """
WITH due AS (
  SELECT slot.id, slot.item_id, slot.rater_id, slot.lease_token, slot.queue_id,
         EXISTS (
           SELECT 1 FROM annotator_judgement AS j
           WHERE j.item_id = slot.item_id AND j.rater_id = slot.rater_id AND j.is_current) AS is_answered
  FROM annotator_slot AS slot
  WHERE slot.state = 1 AND slot.lease_until < %(now)s
  ORDER BY slot.lease_until LIMIT %(batch)s FOR UPDATE OF slot SKIP LOCKED
), freed AS (
  UPDATE annotator_slot AS slot
  SET state = CASE WHEN due.is_answered THEN 2 ELSE 0 END,
      rater_id = CASE WHEN due.is_answered THEN slot.rater_id END,
      lease_token = NULL, lease_until = NULL
  FROM due WHERE slot.id = due.id
), ended AS (
  UPDATE annotator_assignment AS assignment
  SET state = CASE WHEN due.is_answered THEN 'submitted' ELSE 'expired' END, ended_at = %(now)s
  FROM due
  WHERE assignment.item_id = due.item_id AND assignment.rater_id = due.rater_id
    AND assignment.lease_token = due.lease_token AND assignment.state = 'active'
)
SELECT queue.uid, queue.id, count(*), array_agg(due.item_id), queue.n_slots > queue.n_items * queue.overlap
FROM due JOIN annotator_queue AS queue ON queue.id = due.queue_id GROUP BY queue.id
"""

# A lease lasts at least five times the median answer of the queue, so that slow material is not torn from readers.
ADAPT = """
UPDATE annotator_queue AS queue SET lease = slow.lease
FROM (
  SELECT recent.queue_id, make_interval(secs => 5 * percentile_cont(0.5) WITHIN GROUP (ORDER BY recent.wall_s)) AS lease
  FROM (
    SELECT a.queue_id, extract(epoch FROM a.ended_at - a.created_at) AS wall_s
    FROM annotator_assignment AS a WHERE a.state = 'submitted' AND a.id > (
      SELECT coalesce(max(id), 0) - 5000 FROM annotator_assignment)
  ) AS recent
  GROUP BY recent.queue_id HAVING count(*) >= 20
) AS slow
WHERE queue.id = slow.queue_id AND queue.lease < slow.lease AND slow.lease <= interval '1 day'
"""


def leases_expire(*, now: datetime, batch: int = BATCH) -> int:
    """Free every slot whose lease ran out, in short transactions. Returns how many."""
    n_total = 0
    while True:
        n_freed = expire_batch(now=now, batch=batch)
        n_total += n_freed
        if n_freed < batch:
            return n_total


@transaction.atomic
def expire_batch(*, now: datetime, batch: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE, {"now": now, "batch": batch})
        freed = cursor.fetchall()
    for uid, queue_id, _, item_ids, exceeds_overlap in freed:
        poke(f"queue.{uid}", "expired")
        if exceeds_overlap:
            transaction.on_commit(partial(slots_trim, queue_id, item_ids))
    return sum(n for _, _, n, _, _ in freed)


def leases_adapt() -> int:
    """Lengthen the lease of queues whose answers take long. Returns how many changed."""
    with connection.cursor() as cursor:
        cursor.execute(ADAPT)
        return int(cursor.rowcount)


def queues_unbuilt(*, now: datetime, stale: timedelta) -> list[Queue]:
    """Queues in building that nobody has been asked to build lately; marked as asked for now."""
    found = Queue.objects.filter(state=Queue.State.BUILDING, deleted_at=None)
    due = [q for q in found.select_related("project") if q.enqueued_at is None or now - q.enqueued_at > stale]
    Queue.objects.filter(pk__in=[queue.pk for queue in due]).update(enqueued_at=now)
    return due


def sweep_once(now: datetime) -> None:
    """What the sweeper calls every few seconds."""
    from annotator import tasks  # tasks call services, so not at import

    leases_expire(now=now)
    leases_adapt()
    for queue in queues_unbuilt(now=now, stale=ASK_AGAIN_AFTER):
        tasks.queue_enqueue_build(queue)
