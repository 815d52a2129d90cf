"""A checkpoint on the line through two stages of one training."""

import shutil
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.context import JobContext
from workers.errors import JobError
from workers.jobs import JOBS
from workers.specs import SpecModel


@JOBS.add("extrapolate")
class Extrapolate:
    """Make a checkpoint whose weights lie beyond (or between) those of an earlier and a later stage of one training."""

    title: ClassVar[str] = "Extrapolate between two checkpoints"
    queue: ClassVar[Literal["default", "gpu"]] = "default"

    class Spec(SpecModel):
        """Which two checkpoints, and how far."""

        reward_model: str = Field(description="uid of the reward model that the new checkpoint belongs to.")
        earlier: str = Field(description="uid of the checkpoint of the earlier stage.")
        later: str = Field(description="uid of the checkpoint of the later stage.")
        factor: float = Field(
            default=0.3, ge=-1, le=10, description="0 is the later stage, -1 the earlier; above 0 goes beyond."
        )

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from workers.nn.checkpoints import WEIGHTS, read_about
        from workers.nn.extrapolation import extrapolate
        from workers.nn.folders import write_folder
        from workers.nn.storing import rewrite_probes

        earlier, later = ctx.load_checkpoint(spec.earlier), ctx.load_checkpoint(spec.later)
        first, second = earlier.path, later.path
        if first is None or second is None:
            raise JobError("A rule has no weights to extrapolate.", "Choose two trained checkpoints.")
        ctx.progress(0, 1, "Reading both checkpoints")
        folder = ctx.work_dir / "checkpoint"

        def fill(draft: Any) -> None:
            shutil.copytree(second, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns(WEIGHTS))
            extrapolate(first / WEIGHTS, second / WEIGHTS, spec.factor, draft / WEIGHTS)

        write_folder(folder, fill)
        rewrite_probes(folder, later.family, later.config)
        about = read_about(folder)
        meta = {"step": None, "extrapolated": {"earlier": spec.earlier, "later": spec.later, "factor": spec.factor}}
        uid = ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta=meta)
        return {"checkpoint": uid, "factor": spec.factor, "n_probes": len(about["probes"])}
