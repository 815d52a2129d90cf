"""Another machine's part in trainings over several machines: waits for them, joins, and ends when they end.

python -m workers.machine --rank 1 /shared/runs

The first machine is the worker that has the run. It says in the run's folder that a training is about to begin; every
other machine sees that folder (a shared file system, at the same path), has the same configuration of accelerate under
the same name, and starts its own processes with its own machine_rank.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from workers.accelerate_files import LaunchConfig, find_config
from workers.errors import JobError
from workers.processes import child_environment, end_group, launch_command

CALL = "machines.json"
LOOK_EVERY_S = 0.5


@contextmanager
def calling(config: LaunchConfig | None, task: Path) -> Iterator[None]:
    """Call the other machines of a configuration to a task; when this is left, they end their processes."""
    if config is None or config.machines == 1:
        yield
        return
    call = task.with_name(CALL)
    draft = call.with_suffix(".draft")
    draft.write_text(json.dumps({"config": config.path.name, "launch": str(uuid4())}))
    draft.rename(call)
    try:
        yield
    finally:
        call.unlink(missing_ok=True)


def follow(runs: Path, rank: int, *, once: bool = False) -> None:
    """Join every training that is called for in a folder of runs, one after another; forever, unless `once`."""
    joined = ""
    while True:
        for call in sorted(runs.glob(f"*/{CALL}")):
            told = _read(call)
            if told and told["launch"] != joined:
                joined = told["launch"]
                _join(call, told, rank)
                if once:
                    return
        time.sleep(LOOK_EVERY_S)


def _join(call: Path, told: dict[str, Any], rank: int) -> None:
    try:
        config = find_config(told["config"])
    except JobError as error:
        _say(f"{call.parent.name}: {error.message} {error.hint}")
        return
    if not 0 < rank < config.machines:
        _say(f"{call.parent.name}: {config.path.name} has {config.machines} machines, none of rank {rank}")
        return
    task = call.with_name("task.json")
    _say(f"{call.parent.name}: joining as machine {rank} of {config.machines}")
    command = launch_command(config.processes, config, task, rank=rank)
    child = subprocess.Popen(command, env=child_environment(), start_new_session=True)
    try:
        while child.poll() is None and (_read(call) or {}).get("launch") == told["launch"]:
            time.sleep(LOOK_EVERY_S)
    finally:
        end_group(child)
    _say(f"{call.parent.name}: ended with status {child.returncode}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _read(call: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(call.read_text())
        return found
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs of the site, as this machine sees it")
    parser.add_argument("--rank", type=int, required=True, help="this machine's number; the worker's own is 0")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        follow(asked.runs, asked.rank)


if __name__ == "__main__":
    main()
