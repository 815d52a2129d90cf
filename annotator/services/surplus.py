"""Surplus answers: they came when every slot of their item was filled, and count once there is room for them."""

# The earliest answers first. Slots before assignments, as everywhere; the exclusion is not needed beside a slot.
FILL_SURPLUS = """
WITH late AS (
  SELECT j.id, j.item_id, j.rater_id, j.assignment_id, row_number() OVER (PARTITION BY j.item_id ORDER BY j.id) AS place
  FROM annotator_judgement AS j
  WHERE j.queue_id = %(queue)s AND j.is_current AND j.is_surplus
    AND NOT EXISTS (SELECT 1 FROM annotator_slot AS m WHERE m.item_id = j.item_id AND m.rater_id = j.rater_id)
), free AS (
  SELECT slot.id, slot.item_id, row_number() OVER (PARTITION BY slot.item_id ORDER BY slot.slot_no) AS place
  FROM annotator_slot AS slot
  WHERE slot.queue_id = %(queue)s AND slot.stage = 0 AND slot.state = 0 AND slot.item_id IN (SELECT item_id FROM late)
), filled AS (
  UPDATE annotator_slot AS slot SET state = 2, rater_id = late.rater_id
  FROM late JOIN free ON free.item_id = late.item_id AND free.place = late.place
  WHERE slot.id = free.id AND slot.state = 0
  RETURNING slot.id, slot.item_id, late.rater_id, late.assignment_id, late.id AS judgement_id
), linked AS (
  UPDATE annotator_assignment AS assignment SET slot_id = filled.id
  FROM filled WHERE assignment.id = filled.assignment_id
), counted AS (
  UPDATE annotator_judgement AS j SET is_surplus = false FROM filled WHERE j.id = filled.judgement_id
), counts AS (
  UPDATE annotator_queuerater AS counts
  SET n_submitted = counts.n_submitted + mine.n, n_surplus = counts.n_surplus - mine.n
  FROM (SELECT rater_id, count(*) AS n FROM filled GROUP BY rater_id) AS mine
  WHERE counts.queue_id = %(queue)s AND counts.rater_id = mine.rater_id
), readmitted AS (
  DELETE FROM annotator_exclusion AS x USING filled
  WHERE x.item_id = filled.item_id AND x.rater_id = filled.rater_id AND x.reason = 'answered'
)
SELECT count(*) FROM filled
"""
