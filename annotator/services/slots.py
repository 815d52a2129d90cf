"""Slots: the statements that make overlap an invariant. Everything that moves a slot is here.

A slot goes open -> leased -> submitted. Who holds one is decided by its lease token, never by the state of a person.
All statements lock slots before assignments, so two of them never wait for each other in a circle.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from annotator.access import partial
from annotator.models import Assignment, Queue
from annotator.services.queue_items import BOOST, MAX_OVERLAP
from annotator.statements import row_of

RATER_LOCK = "SELECT pg_advisory_xact_lock(%(queue_lock)s, %(rater_lock)s)"
KEY_LOCK = ", pg_advisory_xact_lock(hashtextextended(%(key)s, %(rater_lock)s))"

# NOT EXISTS ignores the stage on purpose: nobody reviews what they annotated themselves.
ELIGIBLE = """
  AND %(is_open)s AND NOT EXISTS (SELECT 1 FROM live)
  AND NOT EXISTS (SELECT 1 FROM annotator_slot AS mine WHERE mine.item_id = slot.item_id AND mine.rater_id = %(rater)s)
  AND NOT EXISTS (
    SELECT 1 FROM annotator_exclusion AS x WHERE x.item_id = slot.item_id AND x.rater_id = %(rater)s)
"""

PICK_BREADTH = f"""
  SELECT slot.id FROM annotator_slot AS slot
  WHERE slot.queue_id = %(queue)s AND slot.stage = 0 AND slot.state = 0
  {ELIGIBLE}
  ORDER BY slot.slot_no, slot.priority DESC, slot.id
  LIMIT 1 FOR UPDATE OF slot SKIP LOCKED
"""  # noqa: S608 - constants

# Started items carry a boost; the deepest are taken first, then fresh ones. Each number is one range of the index.
PICK_DEPTH = f"""
  SELECT found.id FROM generate_series(%(deepest)s, 1, -1) AS number
  CROSS JOIN LATERAL (
    SELECT slot.id FROM annotator_slot AS slot
    WHERE slot.queue_id = %(queue)s AND slot.stage = 0 AND slot.state = 0 AND slot.slot_no = number
      AND slot.priority >= CASE WHEN number = 1 THEN 0 ELSE {BOOST} END
    {ELIGIBLE}
    ORDER BY slot.priority DESC, slot.id
    LIMIT 1 FOR UPDATE OF slot SKIP LOCKED
  ) AS found
  LIMIT 1
"""  # noqa: S608 - constants

# What the rater holds, most recently renewed first; else one fresh lease. Once per rater and item: a second lease of
# the same item goes on with the order and the draft of the first.
CLAIM = """
WITH live AS (
  SELECT {columns}
  FROM annotator_slot AS slot
  JOIN annotator_assignment AS assignment
    ON assignment.item_id = slot.item_id AND assignment.rater_id = slot.rater_id AND assignment.slot_id = slot.id
  WHERE slot.queue_id = %(queue)s AND slot.rater_id = %(rater)s AND slot.state = 1
  ORDER BY slot.lease_until DESC LIMIT 1
), renewed AS (
  UPDATE annotator_slot AS slot SET lease_until = greatest(slot.lease_until, %(until)s)
  FROM live WHERE slot.id = live.slot_id AND slot.lease_token = live.lease_token AND slot.state = 1
), pick AS ({pick}), leased AS (
  UPDATE annotator_slot AS slot
  SET state = 1, rater_id = %(rater)s, lease_token = gen_random_uuid(), lease_until = %(until)s
  FROM pick WHERE slot.id = pick.id
  RETURNING slot.id, slot.item_id, slot.lease_token
){boost}, started AS (
  INSERT INTO annotator_assignment AS assignment
    (uid, created_at, queue_id, item_id, slot_id, rater_id, state, lease_token, a_is_left, seed, form_version_id,
     guidelines_version_id, draft, draft_version, shown, active_s)
  SELECT gen_random_uuid(), %(now)s, %(queue)s, leased.item_id, leased.id, %(rater)s, 'active', leased.lease_token,
    %(a_is_left)s, %(seed)s,
    (SELECT id FROM annotator_formversion WHERE queue_id = %(queue)s ORDER BY number DESC LIMIT 1),
    (SELECT id FROM annotator_guidelinesversion WHERE queue_id = %(queue)s ORDER BY number DESC LIMIT 1),
    '{{}}', 0, '{{}}', 0
  FROM leased
  ON CONFLICT (item_id, rater_id) DO UPDATE SET
    state = 'active', slot_id = EXCLUDED.slot_id, lease_token = EXCLUDED.lease_token, ended_at = NULL,
    form_version_id = EXCLUDED.form_version_id, guidelines_version_id = EXCLUDED.guidelines_version_id
  RETURNING {columns}
)
SELECT * FROM live UNION ALL SELECT * FROM started
"""

#: Of an assignment that a claim brings; the others (the draft among them) are read when somebody asks for them.
CLAIMED = (
    "id", "uid", "created_at", "queue_id", "item_id", "slot_id", "rater_id", "state", "lease_token", "a_is_left",
    "seed", "form_version_id", "guidelines_version_id",
)  # fmt: skip

# The slot that is leased just now is left out: a statement changes a row once.
BOOST_STARTED = f"""
, boosted AS (
  UPDATE annotator_slot AS slot SET priority = slot.priority + {BOOST}
  FROM leased
  WHERE slot.item_id = leased.item_id AND slot.id <> leased.id AND slot.stage = 0 AND slot.state = 0
    AND slot.priority < {BOOST}
)"""  # noqa: S608 - constants

CLAIM_COLUMNS = ", ".join(f"assignment.{name}" for name in CLAIMED)
CLAIM_BREADTH = CLAIM.format(pick=PICK_BREADTH, boost="", columns=CLAIM_COLUMNS)
CLAIM_DEPTH = CLAIM.format(pick=PICK_DEPTH, boost=BOOST_STARTED, columns=CLAIM_COLUMNS)

# A rater whose lease ran out takes the item up again where a slot of it is still open.
RETAKE = """
WITH pick AS (
  SELECT id FROM annotator_slot
  WHERE item_id = %(item)s AND stage = 0 AND state = 0 ORDER BY slot_no LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE annotator_slot AS slot
SET state = %(state)s, rater_id = %(rater)s, lease_token = %(token)s, lease_until = %(until)s
FROM pick
WHERE slot.id = pick.id
  AND NOT EXISTS (SELECT 1 FROM annotator_slot AS m WHERE m.item_id = %(item)s AND m.rater_id = %(rater)s)
RETURNING slot.id
"""


def rater_lock(queue_id: int, rater_id: int, *, key: str = "") -> None:
    """Until the transaction ends, other requests of this rater in this queue wait: two tabs stand in line.

    With a key, so do requests with the same key in any other queue: the key is unique per rater, not per queue.

    A statement of its own, because a later one must see what the request before us has committed.
    """
    run(RATER_LOCK + (KEY_LOCK if key else ""), key=key, **lock_values(queue_id, rater_id))


def lock_values(queue_id: int, rater_id: int) -> dict[str, int]:
    return {"queue_lock": queue_id & 0x7FFFFFFF, "rater_lock": rater_id & 0x7FFFFFFF}


def run_locked(lock: str, query: str, *, queue: int, rater: int, **values: Any) -> tuple[Any, ...] | None:
    """The rater's lock, then one statement that sees what was committed before it; its first row.

    Both go to the server together: outside a transaction a claim or a submit is a single round trip.
    """
    return row_of(lock, query, **values, queue=queue, rater=rater, **lock_values(queue, rater))


def slot_claim(
    *, queue: Queue, rater_id: int, now: datetime, until: datetime, seed: int, a_is_left: bool
) -> Assignment | None:
    """What the rater holds in the queue, renewed; else one open slot of an item they have not met. None: none is left.

    Gives out nothing fresh unless the queue is open.
    """
    row = run_locked(
        RATER_LOCK,
        CLAIM_DEPTH if queue.order_policy == Queue.OrderPolicy.DEPTH else CLAIM_BREADTH,
        queue=queue.pk,
        rater=rater_id,
        now=now,
        until=until,
        seed=seed,
        a_is_left=a_is_left,
        is_open=queue.state == Queue.State.OPEN,
        deepest=MAX_OVERLAP,
    )
    if row is None:
        return None
    claimed = partial(Assignment, **dict(zip(CLAIMED, row, strict=True)))
    claimed.queue = queue
    return claimed


def slot_live(*, queue_id: int, rater_id: int) -> bool:
    """Whether the rater holds something in a queue."""
    query = "SELECT 1 FROM annotator_slot WHERE queue_id = %(queue)s AND rater_id = %(rater)s AND state = 1 LIMIT 1"
    return run(query, queue=queue_id, rater=rater_id) is not None


def slot_renew(*, slot_id: int | None, lease_token: UUID, until: datetime) -> bool:
    """Extend a lease that is still held. Never shortens it."""
    query = """
        UPDATE annotator_slot SET lease_until = greatest(lease_until, %(until)s)
        WHERE id = %(slot)s AND lease_token = %(token)s AND state = 1 RETURNING id"""
    return run(query, slot=slot_id, token=lease_token, until=until) is not None


def slot_retake(*, item_id: int, rater_id: int, lease_token: UUID, until: datetime) -> int | None:
    """Lease an open slot of this very item, for a rater whose lease of it ran out."""
    row = run(RETAKE, item=item_id, rater=rater_id, token=lease_token, until=until, state=1)
    return row[0] if row else None


def slot_fill_free(*, item_id: int, rater_id: int) -> int | None:
    """A late answer: fill an open slot of the item. None when there is none; the answer is surplus then."""
    row = run(RETAKE, item=item_id, rater=rater_id, token=None, until=None, state=2)
    return row[0] if row else None


def slot_release(*, slot_id: int | None, lease_token: UUID) -> bool:
    """Give a held slot back. False when the lease is no longer ours."""
    query = """
        UPDATE annotator_slot SET state = 0, rater_id = NULL, lease_token = NULL, lease_until = NULL
        WHERE id = %(slot)s AND lease_token = %(token)s AND state = 1 RETURNING id"""
    return run(query, slot=slot_id, token=lease_token) is not None


def slot_reopen(*, slot_id: int | None, rater_id: int, lease_token: UUID, until: datetime) -> bool:
    """Take one's own submitted slot back to leased, to correct the answer. Nobody else can get it meanwhile."""
    query = """
        UPDATE annotator_slot SET state = 1, lease_token = %(token)s, lease_until = %(until)s
        WHERE id = %(slot)s AND rater_id = %(rater)s AND state = 2 RETURNING id"""
    return run(query, slot=slot_id, rater=rater_id, token=lease_token, until=until) is not None


def run(query: str, **values: Any) -> tuple[Any, ...] | None:
    """One statement, its first row."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row: tuple[Any, ...] | None = cursor.fetchone() if cursor.description else None
        return row
