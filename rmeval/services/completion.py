"""What follows when a job ends well: its result is kept, its evaluation shown, and the runs it asked for are made.

All in one transaction with the change of state, so that nothing is lost between them. Nothing here enqueues.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from annotator.live import poke
from rmeval.models import Checkpoint, Evaluation, Run
from rmeval.services.runs import run_environment, run_finish, run_note
from rmeval.sources import source_of
from rmeval.specs import job_of, spec_clean


@transaction.atomic
def run_complete(*, run: Run, attempt: int, result: dict[str, Any], now: datetime) -> list[Run]:
    """End a run as done. The runs that follow it, for the caller to enqueue."""
    if measured := result.pop("environment", None):
        run_environment(run=run, **measured)  # now with what torch says of threads and GPUs
    if not run_finish(run=run, attempt=attempt, state=Run.State.DONE, result=result, now=now):
        return []
    if run.kind == "evaluate":
        evaluation_store(run=run, result=result)
    return follow_ups(run=run, result=result, now=now)


def evaluation_store(*, run: Run, result: dict[str, Any]) -> Evaluation:
    """Keep the newest evaluation of a checkpoint on a source, and tell the leaderboards."""
    source = source_of(run.project, run.spec["source"])
    checkpoint = Checkpoint.objects.get(uid=run.spec["checkpoint"], reward_model__project=run.project)
    accuracy = result.get("accuracy") or {}
    evaluation, _ = Evaluation.objects.update_or_create(
        checkpoint=checkpoint,
        dataset=source.dataset,
        snapshot=source.snapshot,
        defaults={
            "project": run.project,
            "run": run,
            "metrics": result,
            "accuracy": accuracy.get("value") if isinstance(accuracy, dict) else accuracy,
            "n_pairs": result.get("n_pairs") or 0,
        },
    )
    for topic in (source.topic, f"comparison.{evaluation.uid}", f"project.{run.project.uid}"):
        poke(topic, "evaluation")
    return evaluation


def follow_ups(*, run: Run, result: dict[str, Any], now: datetime) -> list[Run]:
    """Evaluations of a new checkpoint that the training run asked for in `evaluate_on`."""
    checkpoint = result.get("checkpoint")
    if run.kind != "train_rm" or not checkpoint:
        return []
    made = []
    for source in run.spec.get("evaluate_on") or []:
        wanted = source if isinstance(source, dict) else {"dataset": source}
        spec = spec_clean(job_of("evaluate"), {"checkpoint": checkpoint, "source": wanted})
        child = Run.objects.create(
            project=run.project,
            kind="evaluate",
            spec=spec,
            created_by=run.created_by,
            parent=run,
            reward_model=run.reward_model,
            enqueued_at=now,
            message="Waiting for a worker",
        )
        run_note(child, f"Run submitted by training run {run.uid}", attempt=0)
        poke(f"project.{run.project.uid}", "run")
        made.append(child)
    return made
