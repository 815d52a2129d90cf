"""One of several processes of a training; started by workers.launching through `accelerate launch`.

python -m workers.training_process /run/folder/task.json
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.context import CheckpointRef, LocalJobContext, RewardModelRef
from workers.data.schema import LabelledResponse, PreferencePair
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs.train_rm import TrainRewardModel, check_training
from workers.specs import parse_spec

DIE_WITH_PARENT = 1
START = "start"


class ProcessContext(LocalJobContext):
    """Reads the rows from a file; the main process says on standard output what it does."""

    is_main = False
    meta: Mapping[str, Any] = {}

    def say(self, **told: Any) -> None:
        if self.is_main:
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.say(progress=[done, total, message])

    def metric(self, step: int, **values: float) -> None:
        self.say(metric=step, values=values)

    def log(self, message: str, level: str = "info") -> None:
        self.say(log=message, level=level)

    def save_artifact(self, path: Path, *, kind: str, name: str, meta: Mapping[str, Any]) -> str:
        """The process that launched this one stores the checkpoint; what belongs to it goes with the result."""
        self.meta = meta
        return ""


def main(path: Path) -> None:
    from workers.nn.failures import NotFinite
    from workers.nn.training_job import train
    from workers.nn.world import join_world

    task = json.loads(path.read_text())
    try:
        world = join_world()
    except JobError as error:
        _tell_once(error)
        raise SystemExit(1) from error
    if world.size != task["spec"]["processes"]:
        wanted = task["spec"]["processes"]
        _tell_once(JobError(f"accelerate started {world.size} processes of {wanted}.", "Look at its configuration."))
        raise SystemExit(1)
    folder, model = path.parent, RewardModelRef(**task["model"])
    rows = _rows(folder / "rows.jsonl", task["kind"])
    raw = {**task["spec"], "source": {"dataset": "rows"}}
    started_from = task["start"]
    if started_from:
        raw["start_from"] = START
    ctx = ProcessContext(
        folder,
        pairs={"rows": rows if task["kind"] == "pairs" else []},
        labelled={"rows": rows if task["kind"] == "labelled" else []},
        checkpoints={START: _reference(started_from)} if started_from else {},
        attempt=task["attempt"],
    )
    ctx.is_main = world.is_main
    try:
        spec = parse_spec(TrainRewardModel.Spec, raw)
        family, objective = check_training(spec, model.family, model.config)
        config = parse_spec(FAMILIES.get(model.family).Config, model.config, at="/reward_model")
        result = train(ctx, spec, family, config, objective, world=world)
    except NotFinite as error:  # met by all at once: none may leave before the main process has kept what was good
        ctx.say(error=error.message, hint=error.hint, checkpoint_meta=dict(ctx.meta))
        world.wait()
        raise SystemExit(1) from error
    except JobError as error:
        ctx.say(error=error.message, hint=error.hint)
        if not ctx.is_main:
            sys.stderr.write(f"Process {world.rank}: {error.message} {error.hint}\n")
        raise SystemExit(1) from error
    ctx.say(result={**result, "checkpoint_meta": dict(ctx.meta)})


def _tell_once(error: JobError) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(json.dumps({"error": error.message, "hint": error.hint}) + "\n")
        sys.stdout.flush()


def _reference(told: dict[str, Any]) -> CheckpointRef:
    return CheckpointRef(START, told["family"], told["config"], Path(told["path"]))


def _rows(path: Path, kind: str) -> list[Any]:
    make: Any = PreferencePair if kind == "pairs" else LabelledResponse
    with path.open(encoding="utf-8") as lines:
        return [make(**json.loads(line)) for line in lines]


def _die_with_parent() -> None:
    """On Linux: a launcher that is killed takes its processes along."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_parent()
    main(Path(sys.argv[1]))
