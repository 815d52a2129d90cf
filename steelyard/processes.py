"""Small facts about processes that the launcher and the embedded database share. Standard library only."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A preexec function: the kernel sends `death_signal` to the child when its parent dies. Linux only, else None."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child may only make plain calls
    parent = os.getpid()

    def preexec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os.kill(os.getpid(), death_signal)

    return preexec


def is_alive(pid: int) -> bool:
    """Whether a process runs under this id; a zombie that waits for its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return is_alive_without_proc(pid)


def is_alive_without_proc(pid: int) -> bool:
    """For systems without /proc, where signal 0 has already found the process."""
    return not Path("/proc/self").exists()


def command_line(pid: int) -> str:
    """The command line of a process, empty when it is gone or may not be read."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
        )
        return shown.stdout.strip()
    return ""


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Wait until no process runs under this id. False when it is still there at the end."""
    deadline = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop_process(pid: int, *steps: tuple[signal.Signals, float]) -> bool:
    """Send each signal in turn and wait its seconds. True once the process is gone."""
    for step, timeout_s in steps:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, step)
        if wait_gone(pid, timeout_s):
            return True
    return not is_alive(pid)
