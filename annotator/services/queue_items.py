"""Items and slots in bulk: INSERT .. SELECT inside PostgreSQL, so that a million items take seconds, not an hour."""

from typing import Any

from django.db import connection, transaction

from annotator.errors import InvalidInput
from annotator.models import Queue
from annotator.services.surplus import FILL_SURPLUS

#: Datasets of up to so many examples are built within the request that makes the queue.
INLINE_EXAMPLES = 20_000
MAX_OVERLAP = 50
#: Examples built in one transaction.
CHUNK = 20_000

#: Random order without a sort at claim time: priority is a hash of seed and item. Non-negative and below BOOST.
PRIORITY = "(hashint8extended(item.id, %(seed)s) & 1073741823)::int"
#: Added to the open slots of a started item in a depth-first queue.
BOOST = 1 << 30

PAIRS = {
    Queue.PairPolicy.ALL: "second.number > first.number",
    Queue.PairPolicy.ADJACENT: "second.number = first.next_number",
    Queue.PairPolicy.RANDOM: "second.number > first.number",
}

CHUNK_END = """
SELECT max(id), count(*) FROM (
  SELECT id FROM annotator_example WHERE dataset_id = %(dataset)s AND id > %(after)s ORDER BY id LIMIT %(chunk)s
) AS part
"""

INSERT_ITEMS = """
INSERT INTO annotator_item (uid, created_at, queue_id, example_id, response_a_id, response_b_id, is_gold)
SELECT gen_random_uuid(), now(), %(queue)s, example_id, a, b, false
FROM (
  SELECT first.example_id, first.id AS a, second.id AS b,
         row_number() OVER (
           PARTITION BY first.example_id
           ORDER BY hashint8extended(second.id, hashint8extended(first.id, %(seed)s))
         ) AS pair_no
  FROM (
    SELECT id, example_id, number, lead(number) OVER (PARTITION BY example_id ORDER BY number) AS next_number
    FROM annotator_response
    WHERE example_id IN (
      SELECT id FROM annotator_example WHERE dataset_id = %(dataset)s AND id > %(after)s AND id <= %(to)s
    )
  ) AS first
  JOIN annotator_response AS second ON second.example_id = first.example_id AND {pairs}
) AS pair
WHERE pair_no <= %(max_pairs)s
ORDER BY example_id, a, b
ON CONFLICT DO NOTHING
RETURNING id
"""

INSERT_SLOTS = f"""
INSERT INTO annotator_slot (queue_id, item_id, slot_no, stage, state, priority)
SELECT %(queue)s, item.id, slot_no, 0, 0, {PRIORITY}
FROM annotator_item AS item CROSS JOIN generate_series(1, %(overlap)s) AS slot_no
WHERE item.queue_id = %(queue)s AND item.id >= %(from_item)s
ORDER BY item.id, slot_no
"""  # noqa: S608 - constants

INSERT_LISTED = """
INSERT INTO annotator_item (uid, created_at, queue_id, example_id, response_a_id, response_b_id, is_gold)
SELECT gen_random_uuid(), now(), %(queue)s, first.example_id, first.id, second.id, false
FROM unnest(%(a)s::bigint[], %(b)s::bigint[]) WITH ORDINALITY AS wanted (a, b, place)
JOIN annotator_response AS first ON first.id = wanted.a
JOIN annotator_response AS second ON second.id = wanted.b AND second.example_id = first.example_id
JOIN annotator_example AS example ON example.id = first.example_id AND example.dataset_id = %(dataset)s
WHERE wanted.a <> wanted.b
ORDER BY wanted.place
RETURNING id
"""

# More: open voided slots again, then append. Fewer: void open ones, highest number first.
UNVOID_SLOTS = """
UPDATE annotator_slot SET state = 0, rater_id = NULL, lease_token = NULL, lease_until = NULL
FROM (
  SELECT slot.id, planned.n, row_number() OVER (PARTITION BY slot.item_id ORDER BY slot.slot_no) AS place
  FROM annotator_item AS item
  JOIN annotator_slot AS slot ON slot.item_id = item.id AND slot.stage = 0 AND slot.state = 3
  CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM annotator_slot WHERE item_id = item.id AND stage = 0 AND state <> 3
  ) AS planned
  WHERE item.queue_id = %(queue)s
) AS void
WHERE annotator_slot.id = void.id AND annotator_slot.state = 3 AND void.place <= %(overlap)s - void.n
"""

ADD_SLOTS = f"""
INSERT INTO annotator_slot (queue_id, item_id, slot_no, stage, state, priority)
SELECT %(queue)s, item.id, planned.highest + extra, 0, 0, {PRIORITY}
FROM annotator_item AS item
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE state <> 3) AS n, coalesce(max(slot_no), 0) AS highest
  FROM annotator_slot WHERE item_id = item.id AND stage = 0
) AS planned
CROSS JOIN LATERAL generate_series(1, %(overlap)s - planned.n) AS extra
WHERE item.queue_id = %(queue)s
"""  # noqa: S608 - constants

VOID_SLOTS = """
UPDATE annotator_slot SET state = 3
FROM (
  SELECT slot.id, planned.n,
         row_number() OVER (PARTITION BY slot.item_id ORDER BY slot.slot_no DESC) AS place
  FROM annotator_item AS item
  JOIN annotator_slot AS slot ON slot.item_id = item.id AND slot.stage = 0 AND slot.state = 0
  CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM annotator_slot WHERE item_id = item.id AND stage = 0 AND state <> 3
  ) AS planned
  WHERE item.queue_id = %(queue)s{among}
) AS open
WHERE annotator_slot.id = open.id AND annotator_slot.state = 0 AND open.place <= open.n - %(overlap)s
"""

VOID_SLOTS_OF_ALL = VOID_SLOTS.format(among="")
VOID_SLOTS_OF_SOME = VOID_SLOTS.format(among=" AND item.id = ANY(%(items)s)")

COUNT_SLOTS = """
SELECT count(*) FROM annotator_item AS item
JOIN annotator_slot AS slot ON slot.item_id = item.id AND slot.stage = 0 AND slot.state <> 3
WHERE item.queue_id = %(queue)s
"""


def items_from_examples(queue: Queue) -> bool:
    """Make the items and slots of the next part of the dataset. True when that was the last one."""
    values = parameters(queue)
    pairs = PAIRS[Queue.PairPolicy(queue.pair_policy)]
    with connection.cursor() as cursor:
        cursor.execute(CHUNK_END, {**values, "chunk": CHUNK})
        last, n_examples = cursor.fetchone()
        if last is not None:
            cursor.execute(INSERT_ITEMS.format(pairs=pairs), {**values, "to": last})
            add_slots_of(queue, [row[0] for row in cursor.fetchall()])
            queue.built_to = last
    queue.save(update_fields=["built_to", "n_items", "n_slots"])
    return bool(n_examples < CHUNK)


def items_from_pairs(queue: Queue, pairs: list[tuple[int, int]]) -> None:
    """Make one item for each named pair; a pair that is not of this dataset, or of two prompts, is refused."""
    values = {**parameters(queue), "a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
    with connection.cursor() as cursor:
        cursor.execute(INSERT_LISTED, values)
        made = [row[0] for row in cursor.fetchall()]
    if len(made) < len(pairs):
        raise InvalidInput(
            f"{len(pairs) - len(made)} of {len(pairs)} pairs are not two responses to one prompt of this dataset.",
            code="wrong_pairs",
        )
    add_slots_of(queue, made)
    queue.save(update_fields=["n_items", "n_slots"])


def add_slots_of(queue: Queue, item_ids: list[int]) -> None:
    if not item_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(INSERT_SLOTS, {**parameters(queue), "from_item": min(item_ids)})
        queue.n_slots += cursor.rowcount
    queue.n_items += len(item_ids)


def slots_fit(queue: Queue) -> None:
    """Bring the planned slots of every item to the queue's overlap, as far as work begun allows.

    Answers that came too late for the slots there were fill the new ones before anybody else can.
    """
    with connection.cursor() as cursor:
        for statement in (UNVOID_SLOTS, ADD_SLOTS, VOID_SLOTS_OF_ALL, FILL_SURPLUS, COUNT_SLOTS):
            cursor.execute(statement, parameters(queue))
        queue.n_slots = cursor.fetchone()[0]


@transaction.atomic
def slots_trim(queue_id: int, item_ids: list[int]) -> int:
    """Void slots of these items that were given back and are more than the overlap asks for. Returns how many.

    There are such slots only where the overlap was lowered while work was begun. To be called once the slots are
    committed as open: the queue's lock, taken first, keeps two callers from voiding the last slot of an item.
    """
    queue = Queue.objects.select_for_update(no_key=True).get(pk=queue_id)
    if not queue.exceeds_overlap:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(VOID_SLOTS_OF_SOME, {"queue": queue.pk, "overlap": queue.overlap, "items": item_ids})
        n_void = cursor.rowcount
    queue.n_slots -= n_void
    queue.save(update_fields=["n_slots"])
    return n_void


def parameters(queue: Queue) -> dict[str, Any]:
    is_random = queue.pair_policy == Queue.PairPolicy.RANDOM
    return {
        "queue": queue.pk,
        "dataset": queue.dataset_id,
        "seed": queue.seed,
        "overlap": queue.overlap,
        "after": queue.built_to,
        "max_pairs": 1 if is_random else queue.max_pairs,
    }
