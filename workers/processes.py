"""The command that starts a training's processes on one machine, what they are told, and how they are ended."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from workers.accelerate_files import LaunchConfig

ROOT = Path(__file__).resolve().parents[1]


def launch_command(processes: int, config: LaunchConfig | None, task: Path, *, rank: int = 0) -> list[str]:
    """`accelerate launch` for the machine of this rank, with the configuration file where there is one."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    if not config or not config.is_split:
        launch += ["--multi_gpu"]  # on CPUs too: without it, accelerate starts one process there whatever it is told
    if config:
        launch += ["--config_file", str(config.path)]
        if config.machines > 1:
            launch += ["--machine_rank", str(rank)]
        elif not config.has_port:
            launch += ["--main_process_port", "0"]  # a free one: two runs of one machine must not meet
    else:
        launch += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no", "--main_process_port", "0"]
    return [*launch, "-m", "workers.training_process", str(task)]


def child_environment() -> dict[str, str]:
    """One thread a process unless told otherwise, and this package on the path wherever it is started."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONPATH": path}


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """End the launcher and all it has started: they are a process group of their own."""
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
