"""Which Celery queue a run goes to: chosen once, when it is first enqueued, and kept with the run (decision 064)."""

from typing import Any

from django.db.models import Q

from rmeval.models import Artifact, Checkpoint, Run
from rmeval.services.runs import run_environment
from rmeval.sources import source_of
from workers.families import FAMILIES
from workers.jobs import JOBS

SMALL_RESPONSES = 2000
"""Responses that a small model reads on a CPU within a minute or so: what a run may ask of the queue "default"."""
COUNTED_UP_TO = 50 * SMALL_RESPONSES
"""In a source with more responses it is not worth a query to learn how many of them are not scored yet."""
SMALL_WEIGHTS_BYTES = 500 * 2**20
SCORING = frozenset({"score", "evaluate"})
TYPED = "score_text"


def run_queue(run: Run) -> str:
    """The queue this run was put on, or is to be put on."""
    return str(run.environment.get("queue") or choose_queue(run))


def run_place(run: Run) -> str:
    """Choose the queue of a run that has none yet and keep it; a run that is enqueued again stays where it was."""
    queue = run_queue(run)
    if run.environment.get("queue") != queue:
        run_environment(run=run, queue=queue)
    return queue


def choose_queue(run: Run) -> str:
    """The job's own queue; but rules, and small scoring where no GPU is, do not wait behind a training of hours."""
    if waits_for_others(run):
        return "judge"
    if needs_no_network(run):
        return "default"
    if run.kind == TYPED:  # somebody waits for it at the screen
        return "default" if is_light(asked(run)) else str(JOBS.get(TYPED).queue)
    if run.kind in SCORING and not has_gpu() and is_small(run):
        return "default"
    return str(JOBS.get(run.kind).queue)


def waits_for_others(run: Run) -> bool:
    """A model on a server: hours of waiting, hardly any work; it must hold up neither imports nor trainings."""
    model = run.reward_model
    return model is not None and model.family in FAMILIES and "network" in FAMILIES.get(model.family).capabilities


def needs_no_network(run: Run) -> bool:
    """A rule, such as length: it reads no tokens and has no weights."""
    model = run.reward_model
    return model is not None and model.family in FAMILIES and is_rule(FAMILIES.get(model.family))


def is_rule(family: Any) -> bool:
    return not family.trainable and "tokens" not in family.capabilities


def has_gpu() -> bool:
    """Whether the worker of the queue "gpu" said a GPU was there when a run last ended; unknown counts as yes.

    Two processes on one GPU take each other's memory, so where one is, everything with weights goes to its queue.
    """
    by_gpu_worker = Q(environment__queue="gpu") | ~Q(environment__has_key="queue")  # kept with runs since decision 064
    told = Run.objects.filter(by_gpu_worker, environment__has_key="gpus").order_by("-pk").first()
    return told is None or bool(told.environment["gpus"])


def is_small(run: Run) -> bool:
    """Few responses left to score, with weights that load quickly and fit beside a training."""
    checkpoint = Checkpoint.objects.filter(reward_model__project=run.project_id, uid=run.spec["checkpoint"]).first()
    if checkpoint is None or not has_small_weights(checkpoint):
        return False
    source = source_of(run.project, run.spec["source"])
    if source.home.n_responses > COUNTED_UP_TO:
        return False
    waiting = source.unscored(checkpoint, only_pairs=run.kind == "evaluate").order_by()
    return waiting[: SMALL_RESPONSES + 1].count() <= SMALL_RESPONSES


def asked(run: Run) -> list[Checkpoint]:
    """The checkpoints that score typed texts and are of a family that is there."""
    rows = Checkpoint.objects.filter(reward_model__project=run.project_id, uid__in=run.spec["checkpoints"])
    return [c for c in rows.select_related("reward_model") if c.reward_model.family in FAMILIES]


def is_light(checkpoints: list[Checkpoint]) -> bool:
    """Rules alone; or, where no GPU is, weights that load quickly and fit beside a training."""
    weighted = [c for c in checkpoints if not is_rule(FAMILIES.get(c.reward_model.family))]
    return not weighted or (not has_gpu() and all(has_small_weights(checkpoint) for checkpoint in weighted))


def has_small_weights(checkpoint: Checkpoint) -> bool:
    stored = Artifact.objects.filter(path=checkpoint.path).values_list("n_bytes", flat=True).first()
    return stored is not None and stored <= SMALL_WEIGHTS_BYTES
