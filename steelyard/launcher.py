"""The whole site on one machine: `make up`, or `python -m steelyard.launcher`.

Starts PostgreSQL (unless STEELYARD_DATABASE_URL names one), prepares the database, starts web, workers and sweeper,
restarts what crashes, and stops everything on Ctrl-C or SIGTERM. Whatever goes wrong is said in one line.
"""

import argparse
import contextlib
import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

from steelyard.embedded import Cluster, EmbeddedError
from steelyard.prepare import LOGINS
from steelyard.supervisor import Child, Supervisor, last_line, stop_leftovers

ROOT = Path(__file__).resolve().parent.parent
MIN_FREE_BYTES = 300_000_000
HEALTHY_WITHIN_S = 90.0
LOOK_EVERY_S = 0.2
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class LaunchError(Exception):
    """Why the site cannot start here, in one line."""


def say(text: str) -> None:
    sys.stdout.write(f"steelyard: {text}\n")
    sys.stdout.flush()


class Launcher:
    def __init__(self, *, home: Path, host: str, port: int, follows_parent: bool) -> None:
        self.home, self.host, self.port = home, host, port
        self.var_dir = home / "var"
        self.parent = os.getppid() if follows_parent else 0
        self.n_stops = 0
        self.began = time.monotonic()
        self.logins: list[str] = []
        self.cluster: Cluster | None = None
        self.supervisor = Supervisor(self.var_dir / "run" / "children.json", say)

    @property
    def url(self) -> str:
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.ask_to_stop)
        self.make_folders()
        with self.only_one(), contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            if left := stop_leftovers(self.supervisor.pid_file):
                say(f"ended what an earlier start left running: {', '.join(left)}")
            listener = stack.enter_context(listen(self.host, self.port))
            self.start_database()
            self.prepare()
            self.start_site(listener)
            while not self.is_stopping:
                self.look_after()
                time.sleep(LOOK_EVERY_S)
        say("stopped")
        return 0

    # Before anything runs

    def make_folders(self) -> None:
        for name in ("log", "run", "static"):
            (self.var_dir / name).mkdir(parents=True, exist_ok=True)
        probe = self.var_dir / "run" / ".writable"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(self.var_dir).free
        if free < MIN_FREE_BYTES:
            raise LaunchError(
                f"only {free // 1_000_000} MB are free in {self.home} and {MIN_FREE_BYTES // 1_000_000} MB are needed "
                "to start: make room, or set STEELYARD_HOME to a folder elsewhere"
            )

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """Hold the lock of this home; the kernel lets go of it however this process ends."""
        path = self.var_dir / "run" / "launcher.lock"
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LaunchError(f"already running from {self.home} {describe_holder(lock)}") from None
            lock.seek(0)
            lock.truncate()
            lock.write(json.dumps({"pid": os.getpid(), "url": self.url}))
            lock.flush()
            yield

    # Start

    def start_database(self) -> None:
        if os.environ.get("STEELYARD_DATABASE_URL"):
            return
        self.cluster = Cluster(self.var_dir)
        if not self.cluster.data.exists():
            say(f"making a database in {self.cluster.data}")
        self.cluster.start()

    def prepare(self) -> None:
        """Migrations, broker and demo in a process of their own: the launcher stays small."""
        child = subprocess.Popen(
            [sys.executable, "-m", "steelyard.prepare"],
            cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=(self.var_dir / "log" / "prepare.log").open("wb"), text=True, start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.startswith(LOGINS):
                    self.logins.append(line.rstrip())  # said when somebody can log in
                else:
                    say(line.rstrip())
            code = child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        if code and not self.is_stopping:
            log = self.var_dir / "log" / "prepare.log"
            raise LaunchError(f"{last_line(log) or 'the database cannot be prepared'} (log: {log})")

    def start_site(self, listener: socket.socket) -> None:
        if self.is_stopping:
            return
        os.set_inheritable(listener.fileno(), True)
        fd = listener.fileno()
        python = [sys.executable, "-m"]
        self.start("web", [*python, "steelyard.web", "--fd", str(fd)], pass_fds=(fd,))
        self.wait_healthy()
        if self.is_stopping:
            return
        say(f"ready after {time.monotonic() - self.began:.1f} s: {self.url}")
        for line in self.logins:
            say(line)
        if self.logins and self.host not in LOOPBACK:
            say(
                "this address is open to the network and the demo's password is no secret; "
                "STEELYARD_DEMO_PASSWORD sets another"
            )
        celery = [*python, "celery", "-A", "steelyard.celery", "worker", "--concurrency", "1"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.start("worker-default", [*celery, *quiet, "-n", "default@%h", "-Q", "default"], stop=signal.SIGQUIT)
        gpu = ["-n", "gpu@%h", "-Q", "gpu,judge", "--max-tasks-per-child", "1"]
        self.start("worker-gpu", [*celery, *quiet, *gpu], stop=signal.SIGQUIT)
        self.start("sweeper", [sys.executable, "manage.py", "sweep", "--forever"])
        say("stop with Ctrl-C")

    def start(
        self, name: str, command: list[str], *, stop: signal.Signals = signal.SIGTERM, pass_fds: tuple[int, ...] = ()
    ) -> None:
        log = self.var_dir / "log" / f"{name}.log"
        child = Child(name, command, log, stop_signal=stop, pass_fds=pass_fds, environment=self.environment())
        self.supervisor.start(child)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "STEELYARD_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    def wait_healthy(self) -> None:
        web = self.supervisor.children[0]
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while not self.is_stopping:
            if not web.is_running:
                raise LaunchError(f"{web.ending()} (log: {web.log_path})")
            if status(self.host, self.port, "/healthz") == 200:
                self.warm_up()
                return
            if time.monotonic() > deadline:
                raise LaunchError(f"the site does not answer at {self.url} (log: {web.log_path})")
            time.sleep(0.05)

    def warm_up(self) -> None:
        """Load every page's code before the first person waits for it, and say when that fails."""
        if status(self.host, self.port, "/") >= 500:
            say(f"the front page fails (log: {self.supervisor.children[0].log_path})")

    # Run

    @property
    def is_stopping(self) -> bool:
        if self.parent and os.getppid() != self.parent:
            self.n_stops = self.n_stops or 1
        return self.n_stops > 0

    def look_after(self) -> None:
        """A crashed database comes back before anything else; the programs reconnect by themselves."""
        database = self.cluster.process if self.cluster else None
        if self.cluster and database and database.poll() is not None:
            say(f"PostgreSQL ended with {database.returncode}; starting it again (log: {self.cluster.log_path})")
            try:
                self.cluster.start()
            except EmbeddedError as error:
                say(str(error))
                time.sleep(2)
        self.supervisor.look()

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.n_stops += 1
        if self.n_stops == 1:
            say("stopping")
        else:
            for child in self.supervisor.children:
                child.ask_to_stop(now=True)

    def stop(self) -> None:
        """The programs first, the database last; a second signal skips the waiting."""
        self.n_stops = self.n_stops or 1
        self.supervisor.stop()
        if self.cluster:
            self.cluster.stop()


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the port before anything slow starts; the web process inherits it and may crash without losing it."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError) as error:
        raise LaunchError(f"HOST={host} PORT={port} is no address of this machine: {error}") from error
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise LaunchError(
                    f"port {port} is in use by another program; choose one: make up PORT={port + 1}"
                ) from error
            raise LaunchError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener


def status(host: str, port: int, path: str) -> int:
    """HTTP status of a page, 0 when nothing answers."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    probe = http.client.HTTPConnection(reached, port, timeout=20)
    try:
        probe.request("GET", path)
        return probe.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        probe.close()


def describe_holder(lock: TextIO) -> str:
    lock.seek(0)
    try:
        held = json.loads(lock.read())
        return f"at {held['url']} (process {held['pid']}); stop it first, or set another STEELYARD_HOME and PORT"
    except (ValueError, KeyError):
        return "(it is just starting)"


def explain(error: OSError, home: Path) -> str:
    """The cases a person can do something about, in words."""
    where = error.filename or home
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return f"cannot write to {where} ({error.strerror}); set STEELYARD_HOME to a folder that you may write to"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"no space left on the disk that holds {home}"
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return f"{first_file(Path(where))} is a file where a folder is needed; set STEELYARD_HOME to a folder"
    if error.errno == errno.ENOENT:
        return f"{where} cannot be made; set STEELYARD_HOME to a folder that exists or can be made"
    return f"{where}: {error.strerror or error}"


def first_file(path: Path) -> Path:
    """The part of a path that is a file, so that nothing can lie in it; the path itself when none is."""
    return next((part for part in [*reversed(path.parents), path] if part.exists() and not part.is_dir()), path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m steelyard.launcher", description=__doc__)
    parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
    parser.add_argument("--port", default=os.environ.get("PORT") or "8000")
    parser.add_argument("--follow-parent", action="store_true", help="stop when the program that started this one ends")
    options = parser.parse_args(argv)
    home = Path(os.environ.get("STEELYARD_HOME") or ROOT).expanduser().resolve()
    try:
        if not options.port.isdigit() or not 0 < int(options.port) < 65536:
            raise LaunchError(f"PORT must be a number from 1 to 65535, not {options.port!r}")
        site = Launcher(home=home, host=options.host, port=int(options.port), follows_parent=options.follow_parent)
        return site.run()
    except (LaunchError, EmbeddedError) as error:
        message = str(error)
    except OSError as error:
        message = explain(error, home)
    sys.stderr.write(f"steelyard: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
