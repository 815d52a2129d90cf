"""Export a checkpoint as a Hugging Face folder that transformers opens by itself."""

import shutil
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.context import JobContext
from workers.data.model_card import model_card
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import FieldProblem, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.specs import SpecModel

PROBES = (
    "`probes.json` holds texts with their token ids and what they must get. Opened this way, the folder differed"
    " from the checkpoint by at most {difference:.2g} on them."
)
PLAIN = "Download the plain folder of the checkpoint, where it has one: Steelyard opens it, and it holds the weights."
EXPORTED = frozenset(
    {
        "scalar_head",
        "multi_attribute",
        "embedding_linear",
        "process",
        "twin_head",
        "goal_conditioned",
        "policy_discriminator",
        "reference_verifier",
    }
)
"""Families whose rewards a class of transformers computes, or the one that travels with the weights."""
WHY = {
    "ensemble": "It is several models: export its members one by one.",
    "bayesian_ensemble": "Its reward picks among several heads by how sure each is.",
    "mixture": "A router weighs its heads by the prompt.",
    "gated": "A gate weighs its ratings by the prompt.",
    "latent_user": "Its reward depends on who asks.",
    "twin_policies": "Its rewards are likelihoods of two policies.",
    "autoregressive": "Its reward is a likelihood; the class is a language model's.",
    "implicit": "Its reward is the ratio of two likelihoods.",
    "likelihood": "Its reward is a likelihood.",
}


BLIND = "An exported model reads tokens, and is not told where among them the response begins"


def refusal(family: str, config: Mapping[str, Any]) -> str:
    """Why checkpoints of a family with these settings are not exported; empty where they can be."""
    if family not in EXPORTED:
        return f"The rewards of the family {family} cannot be exported. {WHY.get(family, '')}".rstrip()
    fields = FAMILIES.get(family).Config.model_fields
    told = {name: config.get(name, field.default) for name, field in fields.items()}
    if told.get("pooling") == "response_mean":
        return f"{BLIND}: this one reads the mean of the response's tokens."
    if told.get("length_normalisation", "none") != "none":
        return f"{BLIND}: this one divides the reward by the length of the response."
    depth = told.get("head_depth", 1)
    if family == "process" and depth > 1:
        return f"Classes of transformers that label tokens have a head of 1 layer; this one has {depth}."
    if family == "twin_head" and told["output"] == "mean" and depth > 1:
        return f"The reward is the mean of two heads of {depth} layers, and an exported model has one head."
    return ""


@JOBS.add("export_checkpoint")
class ExportCheckpoint:
    """Write config, tokenizer, model.safetensors and a model card, open the folder again, and compare the rewards.

    Where no class of transformers computes the same, the folder brings a class of ours as a file, which the card says.
    What cannot leave at all is refused when it is submitted; the checkpoint's own files can be downloaded always.
    """

    title: ClassVar[str] = "Export a checkpoint"
    queue: ClassVar[Literal["default", "gpu"]] = "default"

    class Spec(SpecModel):
        """What to export."""

        checkpoint: str = Field(description="uid of a checkpoint.")

    @staticmethod
    def check(_: Any, family: str, config: Mapping[str, Any]) -> None:
        """SpecError for a reward model that cannot be exported, whatever its weights."""
        if why := refusal(family, config):
            detail = f"{why} {PLAIN}"
            raise SpecError([FieldProblem(pointer="/checkpoint", code="does_not_fit", detail=detail)])

    @staticmethod
    def needs_preferences(*_: Any) -> bool:
        return False

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from dataclasses import asdict

        from workers.nn.exporting import export_folder

        keep_freed_memory()
        ctx.progress(0, 2, "Writing the folder")
        reference = ctx.load_checkpoint(spec.checkpoint)
        folder = ctx.work_dir / "export"
        shutil.rmtree(folder, ignore_errors=True)
        found = export_folder(reference, folder)
        ctx.checkpoint()
        ctx.progress(1, 2, "Keeping it")
        told = asdict(found)
        code = f"```python\n{told.pop('code')}```"
        loading = [*found.notes, code, PROBES.format(difference=found.difference)]
        card = model_card(ctx.describe_checkpoint(spec.checkpoint), loading)
        (folder / "README.md").write_text(card, encoding="utf-8")
        meta = {"of_checkpoint": spec.checkpoint, **told}
        uid = ctx.save_artifact(folder, kind="export", name="transformers", meta=meta)
        for note in found.notes:
            ctx.log(note, "warning")
        ctx.progress(2, 2, "Exported")
        return {
            "artifact": uid,
            "opens_as": found.class_name,
            "probe_difference": found.difference,
            "constant": found.constant,
            "constants": found.constants,
            "weights": found.weights,
            "notes": found.notes,
            "peak_rss_mib": round(peak_rss_mib()),
            "environment": describe_environment(),
        }
