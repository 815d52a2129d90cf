"""What leaves with a checkpoint: the facts of its card, its own files, and the folder a run has exported."""

from pathlib import Path
from typing import Any

from django.conf import settings

from annotator.errors import NotFound
from annotator.models import Dataset, Snapshot
from rmeval.archives import Member
from rmeval.models import Artifact, Checkpoint, Evaluation, Run
from rmeval.selectors.training_data import on_training_data, with_training
from rmeval.services.artifacts import files_of
from rmeval.sources import PairSource
from workers.data.model_card import model_card

PLAIN_LOADING = (
    "This is the folder as Steelyard keeps it: `weights.safetensors` with the tensors of `backbone.*` and `head.*`, "
    "`backbone/` with config and tokenizer, and `reward_model.json` with the settings and eight texts with the rewards "
    "they must get. Steelyard opens it; no class of transformers does by itself.",
)


def checkpoint_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the model card states."""
    run = checkpoint.run
    data = (run.environment.get("data") or {}) if run else {}
    evaluations = Evaluation.objects.filter(checkpoint=checkpoint, accuracy__isnull=False)
    rows = with_training(evaluations).order_by("-updated_at")
    learnt = on_training_data(rows)
    return {
        "name": checkpoint.reward_model.name,
        "number": checkpoint.number,
        "uid": str(checkpoint.uid),
        "family": checkpoint.reward_model.family,
        "config": checkpoint.reward_model.config,
        "sha256": checkpoint.sha256,
        "metrics": checkpoint.metrics,
        "licence": licence_of(data),
        "data": data,
        "run": {"uid": str(run.uid), "kind": run.kind, "spec": run.spec, "ended_at": ended(run)} if run else {},
        "evaluations": [evaluation_facts(row, has_learnt_from_it=row.pk in learnt) for row in rows],
    }


def ended(run: Any) -> str:
    return run.ended_at.isoformat(timespec="seconds") if run.ended_at else ""


def evaluation_facts(row: Evaluation, *, has_learnt_from_it: bool) -> dict[str, Any]:
    accuracy = row.metrics.get("accuracy") or {}
    name = PairSource(dataset=row.dataset, snapshot=row.snapshot).name
    ends = {key: accuracy.get(key) for key in ("low", "high")} if isinstance(accuracy, dict) else {}
    return {"name": name, "value": row.accuracy, "n": row.n_pairs, "has_learnt_from_it": has_learnt_from_it, **ends}


def licence_of(data: dict[str, Any]) -> str:
    """Of the dataset that a run read, or of the one below the snapshot it read."""
    if data.get("kind") == "dataset":
        found = Dataset.objects.filter(uid=data["uid"]).values_list("licence", flat=True).first()
    elif data.get("kind") == "snapshot":
        found = Snapshot.objects.filter(uid=data["uid"]).values_list("queue__dataset__licence", flat=True).first()
    else:
        found = ""
    return found or ""


def newest_export(checkpoint: Checkpoint) -> Artifact | None:
    """The folder for transformers that a run has made of this checkpoint."""
    rows = Artifact.objects.filter(run__project=checkpoint.reward_model.project_id, kind="export")
    return rows.filter(meta__of_checkpoint=str(checkpoint.uid)).order_by("-pk").first()


def newest_refusal(checkpoint: Checkpoint) -> Run | None:
    """The last export that failed, which says why."""
    rows = Run.objects.filter(project=checkpoint.reward_model.project_id, kind="export_checkpoint", state="failed")
    return rows.filter(spec__checkpoint=str(checkpoint.uid)).exclude(error=None).order_by("-pk").first()


def plain_members(checkpoint: Checkpoint) -> list[Member]:
    """The checkpoint's own files with a card."""
    members = stored_members(checkpoint.path)
    return [Member("README.md", model_card(checkpoint_facts(checkpoint), PLAIN_LOADING).encode()), *members]


def export_members(checkpoint: Checkpoint) -> list[Member]:
    found = newest_export(checkpoint)
    if found is None:
        raise NotFound(
            "This checkpoint has not been exported yet. Start a run of kind export_checkpoint, or take form=plain.",
            code="not_exported",
        )
    return stored_members(found.path)


def stored_members(path: str) -> list[Member]:
    root = Path(settings.ARTIFACT_DIR) / path
    if not path or not root.exists():
        raise NotFound("The files are not on this machine, or there are none.", code="no_files")
    return [Member(name, file) for name, file in files_of(root)]
