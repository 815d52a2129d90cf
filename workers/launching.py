"""Training by several processes: `accelerate launch` starts them, this process feeds them and passes on what they say.

The rows go to a file that every process reads; the main process of them writes progress as JSON lines. A cancel, or the
end of this process, ends them all.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from workers.accelerate_files import LaunchConfig, check_fit, launch_config, no_deepspeed
from workers.context import JobContext, RewardModelRef
from workers.errors import JobError
from workers.machine import calling
from workers.processes import child_environment, end_group, launch_command

LOOK_EVERY_S = 0.2
RANK = re.compile(r"^\[rank\d+\]: ?")
RAISED = re.compile(r"^(\[rank\d+\]: ?)?[A-Za-z_.]*(Error|Exception|Interrupt)\b")


def train_in_processes(
    ctx: JobContext, spec: Any, model: RewardModelRef, *, kind: str, objective: str
) -> dict[str, Any]:
    """Run the training of `spec` in several processes; its result, with the checkpoint stored by this one.

    A configuration file of accelerate says more than a number: which GPUs, how the model is split, several machines.
    """
    folder, config = ctx.work_dir, launch_config(spec)
    if config:
        check_fit(config, spec, model.family, objective)
        if config.kind == "deepspeed" and find_spec("deepspeed") is None:
            raise no_deepspeed()
    n = config.processes if config else spec.processes
    rows = folder / "rows.jsonl"
    _write_rows(ctx, rows, kind, spec)
    start = None
    if spec.start_from is not None:
        reference = ctx.load_checkpoint(spec.start_from)
        start = {"family": reference.family, "config": reference.config, "path": str(reference.path)}
    task = folder / "task.json"
    told = {**spec.model_dump(mode="json"), "processes": n, "accelerate_config": None}
    about = {"spec": told, "model": asdict(model), "kind": kind, "start": start}
    task.write_text(json.dumps({**about, "attempt": ctx.attempt}))
    with calling(config, task):
        result = _watch(ctx, launch_command(n, config, task))
    meta = result.pop("checkpoint_meta")
    result["checkpoint"] = _store(ctx, meta)
    return {**result, "processes": n, **({"accelerate": describe(config)} if config else {})}


def _store(ctx: JobContext, meta: dict[str, Any]) -> str:
    return ctx.save_artifact(ctx.work_dir / "checkpoint", kind="checkpoint", name="checkpoint", meta=meta)


def describe(config: LaunchConfig) -> dict[str, Any]:
    """What the run was launched with, for its record: the file may be another one tomorrow."""
    return {"config": config.path.name, "kind": config.kind, "text": config.path.read_text(encoding="utf-8")}


def _write_rows(ctx: JobContext, path: Path, kind: str, spec: Any) -> None:
    """Every row once, in the order of the source, so that all processes see the same data."""
    ctx.progress(0, 1, "Writing the rows for the processes")
    with path.open("w", encoding="utf-8") as out:
        for number, row in enumerate(ctx.open_input(kind, source=spec.source.query())):
            if number % 1000 == 0:
                ctx.checkpoint()
            out.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def _watch(ctx: JobContext, command: list[str]) -> dict[str, Any]:
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=child_environment(), start_new_session=True)
    errors: SimpleQueue[bytes] = SimpleQueue()
    lines: SimpleQueue[bytes] = SimpleQueue()
    readers = [Thread(target=_read, args=one, daemon=True) for one in ((child.stdout, lines), (child.stderr, errors))]
    for reader in readers:
        reader.start()
    result: dict[str, Any] = {}
    try:
        for told in _messages(ctx, child, lines):
            result = _pass_on(ctx, told) or result
    finally:
        end_group(child)
        for reader in readers:
            reader.join()
    if not result:
        raise JobError(
            f"The training processes ended without a result (exit status {child.returncode}). {_last(errors)}",
            "Look at the log of the worker; fewer processes, or one, may tell more.",
        )
    return result


def _messages(
    ctx: JobContext, child: "subprocess.Popen[bytes]", lines: "SimpleQueue[bytes]"
) -> Iterator[dict[str, Any]]:
    while True:
        ctx.checkpoint()
        try:
            line = lines.get(timeout=LOOK_EVERY_S)
        except Empty:
            if child.poll() is not None and lines.empty():
                return
            continue
        if not line:
            return
        if line.startswith(b"{"):
            yield json.loads(line)


def _pass_on(ctx: JobContext, told: dict[str, Any]) -> dict[str, Any] | None:
    """Do what a message asks; the result where it is that."""
    if "progress" in told:
        ctx.progress(*told["progress"])
    elif "metric" in told:
        ctx.metric(told["metric"], **told["values"])
    elif "log" in told:
        ctx.log(told["log"], told["level"])
    elif "error" in told:
        if told.get("checkpoint_meta"):
            _store(ctx, told["checkpoint_meta"])
        raise JobError(told["error"], told["hint"])
    return told.get("result")


def _read(pipe: Any, lines: "SimpleQueue[bytes]") -> None:
    for line in pipe:
        lines.put(line)
    lines.put(b"")


def _last(errors: "SimpleQueue[bytes]", most: int = 400) -> str:
    """The error of the first process that failed, where one can be made out; else the end of what was said."""
    found = []
    while not errors.empty():
        found.append(errors.get().decode(errors="replace"))
    raised = [line for line in found if RAISED.match(line) and "ChildFailedError" not in line]
    return RANK.sub("", raised[0])[:most].strip() if raised else "".join(found)[-most:].strip()
