"""Child processes that are kept running: started, restarted with back-off, stopped in order, never left behind."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.processes import die_with_parent, is_alive, started_at, stop_process

STEADY_S = 60.0  # a child that ran this long starts afresh with the shortest delay
MAX_DELAY_S = 30.0
MAX_LOG_BYTES = 20_000_000
Say = Callable[[str], None]


@dataclass
class Child:
    """One program of the site. `stop_signal` asks it to end, `grace_s` later it is killed with its whole group."""

    name: str
    command: Sequence[str]
    log_path: Path
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    began_at: float = 0.0
    n_failures: int = 0
    restart_at: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        rotate(self.log_path)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                pass_fds=self.pass_fds,
                start_new_session=True,  # a group of its own: Ctrl-C reaches the launcher alone
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - plain calls only
            )
        self.began_at = time.monotonic()
        self.restart_at = 0.0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ending(self) -> str:
        """How the process ended, with its last words when it ended by itself."""
        code = self.process.returncode if self.process else 0
        if code < 0:
            return f"{self.name} was killed by {signal.Signals(-code).name}"
        words = last_line(self.log_path)
        return f"{self.name} ended with {code}" + (f": {words}" if words else "")

    def plan_restart(self) -> float:
        """Seconds until the next start: 1, 2, 4 ... 30."""
        self.n_failures = 0 if time.monotonic() - self.began_at > STEADY_S else self.n_failures
        delay_s = min(MAX_DELAY_S, 2.0**self.n_failures)
        self.n_failures += 1
        self.restart_at = time.monotonic() + delay_s
        return delay_s

    def ask_to_stop(self, *, now: bool = False) -> None:
        if self.process is not None and self.process.poll() is None:
            if now:
                self.kill_group()
            else:
                self.process.send_signal(self.stop_signal)

    def finish(self, deadline: float) -> None:
        """Wait until the deadline, then kill the group, which also takes what the child left behind."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill_group()
        self.process.wait()
        self.process = None

    def kill_group(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Supervisor:
    """Looks after children and keeps their process ids on disk for the launcher that comes after a kill -9."""

    pid_file: Path
    say: Say
    children: list[Child] = field(default_factory=list)

    def start(self, child: Child) -> None:
        self.children.append(child)
        child.start()
        self.note()

    def look(self) -> None:
        """Restart what ended. Called a few times a second."""
        for child in self.children:
            if child.is_running:
                continue
            if not child.restart_at:
                ending = child.ending()
                child.kill_group()
                delay_s = child.plan_restart()
                self.say(f"{ending}; starting it again in {delay_s:.0f} s (log: {child.log_path})")
            elif time.monotonic() >= child.restart_at:
                child.start()
                self.note()

    def stop(self, *, now: bool = False) -> None:
        for child in self.children:
            child.ask_to_stop(now=now)
        began = time.monotonic()
        for child in self.children:
            child.finish(began if now else began + child.grace_s)
        self.children.clear()
        self.pid_file.unlink(missing_ok=True)

    def note(self) -> None:
        rows = [[c.name, c.process.pid, started_at(c.process.pid)] for c in self.children if c.process is not None]
        unfinished = self.pid_file.with_suffix(".new")
        unfinished.write_text(json.dumps(rows))
        unfinished.replace(self.pid_file)


def stop_leftovers(pid_file: Path) -> list[str]:
    """End children of a launcher that was killed. A process id that was given to another program is left alone."""
    try:
        rows = json.loads(pid_file.read_text())
    except (OSError, ValueError):
        return []
    stopped = []
    for name, pid, since in rows:
        if is_alive(pid) and abs(started_at(pid) - since) < 1:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            stop_process(pid, (signal.SIGKILL, 5))
            stopped.append(name)
    pid_file.unlink(missing_ok=True)
    return stopped


def rotate(log_path: Path) -> None:
    """Keep one old log, so that a site that runs for months does not fill the disk."""
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > MAX_LOG_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))


def last_line(log_path: Path, n_bytes: int = 2000) -> str:
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - n_bytes))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
