"""Training by several processes: `accelerate launch` starts them, this process feeds them and passes on what they say.

The rows go to a file that every process reads; the main process of them writes progress as JSON lines. A cancel, or the
end of this process, ends them all.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from workers.accelerate_files import LaunchConfig, check_fit, launch_config
from workers.context import JobContext, RewardModelRef
from workers.errors import JobError

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY_S = 0.2


def train_in_processes(
    ctx: JobContext, spec: Any, model: RewardModelRef, *, kind: str, objective: str
) -> dict[str, Any]:
    """Run the training of `spec` in several processes; its result, with the checkpoint stored by this one.

    A configuration file of accelerate says more than a number: which GPUs, how the model is split, several machines.
    """
    folder, config = ctx.work_dir, launch_config(spec)
    if config:
        check_fit(config, spec, model.family, objective)
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
    task.write_text(json.dumps({**about, "folder": str(folder), "attempt": ctx.attempt}))
    result = _watch(ctx, command(n, config, task))
    meta = result.pop("checkpoint_meta")
    result["checkpoint"] = _store(ctx, meta)
    return {**result, "processes": n, **({"accelerate": describe(config)} if config else {})}


def _store(ctx: JobContext, meta: dict[str, Any]) -> str:
    return ctx.save_artifact(ctx.work_dir / "checkpoint", kind="checkpoint", name="checkpoint", meta=meta)


def describe(config: LaunchConfig) -> dict[str, Any]:
    """What the run was launched with, for its record: the file may be another one tomorrow."""
    return {"config": config.path.name, "kind": config.kind, "text": config.path.read_text(encoding="utf-8")}


def command(processes: int, config: LaunchConfig | None, task: Path) -> list[str]:
    """What starts this machine's processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    if config:
        launch += ["--config_file", str(config.path)]
        if config.machines == 1 and not config.has_port:
            launch += ["--main_process_port", "0"]  # a free one: two runs of one machine must not meet
    else:
        launch += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no", "--main_process_port", "0"]
        launch += ["--multi_gpu"] if _n_gpus() >= processes else ["--cpu"]
    return [*launch, "-m", "workers.training_process", str(task)]


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _write_rows(ctx: JobContext, path: Path, kind: str, spec: Any) -> None:
    """Every row once, in the order of the source, so that all processes see the same data."""
    ctx.progress(0, 1, "Writing the rows for the processes")
    with path.open("w", encoding="utf-8") as out:
        for number, row in enumerate(ctx.open_input(kind, source=spec.source.query())):
            if number % 1000 == 0:
                ctx.checkpoint()
            out.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def _watch(ctx: JobContext, command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment, start_new_session=True
    )
    errors: SimpleQueue[bytes] = SimpleQueue()
    lines: SimpleQueue[bytes] = SimpleQueue()
    readers = [Thread(target=_read, args=pipe, daemon=True) for pipe in ((child.stdout, lines), (child.stderr, errors))]
    for reader in readers:
        reader.start()
    result: dict[str, Any] = {}
    try:
        for told in _messages(ctx, child, lines):
            result = _pass_on(ctx, told) or result
    finally:
        _end(child)
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
    found = []
    while not errors.empty():
        found.append(errors.get().decode(errors="replace"))
    return "".join(found)[-most:].strip()


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the launcher and all it has started: they are a process group of their own."""
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
