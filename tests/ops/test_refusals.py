"""What cannot work is said in one line, with an exit code, and without a traceback."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.launcher import ROOT
from tests.ops.site import clean_environment, free_port

IN_A_SMALL_MOUNT = ["unshare", "--mount", "sh", "-c"]


def launch(home: Path, *, prefix: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "steelyard.launcher"]
    if prefix:
        command = [*IN_A_SMALL_MOUNT, f'{prefix} && exec "$0" "$@"', *command]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**clean_environment(home, free_port()), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def can_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return (
        subprocess.run([*IN_A_SMALL_MOUNT, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode
        == 0
    )


needs_mount = pytest.mark.skipif(not can_mount(), reason="making a mount needs root and unshare")


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = complaint(launch(tmp_path, PORT=str(port)))
    assert f"port {port} is in use" in said
    assert f"PORT={port + 1}" in said
    assert not (tmp_path / "var" / "pg").exists()


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_port_that_is_none(tmp_path: Path, port: str) -> None:
    assert "PORT must be a number" in complaint(launch(tmp_path, PORT=port))


def test_host_that_is_not_ours(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1" in complaint(launch(tmp_path, HOST="192.0.2.1"))


def test_home_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "set STEELYARD_HOME" in complaint(launch(tmp_path / "file"))


@needs_mount
def test_read_only_folder(tmp_path: Path) -> None:
    said = complaint(launch(tmp_path, prefix=f"mount -t tmpfs -o ro none '{tmp_path}'"))
    assert "cannot write to" in said
    assert "STEELYARD_HOME" in said


@needs_mount
def test_no_disk_space(tmp_path: Path) -> None:
    said = complaint(launch(tmp_path, prefix=f"mount -t tmpfs -o size=20m none '{tmp_path}'"))
    assert "MB are free" in said


def test_database_that_does_not_answer(tmp_path: Path) -> None:
    url = f"postgresql://steelyard:secret@127.0.0.1:{free_port()}/steelyard"
    said = complaint(launch(tmp_path, STEELYARD_DATABASE_URL=url))
    assert "the database does not answer" in said
    assert "secret" not in said


def test_database_url_of_another_product(tmp_path: Path) -> None:
    assert "postgresql://" in complaint(launch(tmp_path, STEELYARD_DATABASE_URL="mysql://root@localhost/x"))


def test_setting_that_is_no_number(tmp_path: Path) -> None:
    assert "STEELYARD_JOB_TIME_LIMIT_S" in complaint(launch(tmp_path, STEELYARD_JOB_TIME_LIMIT_S="long"))


# The bootstrap runs before anything is installed.


def bootstrap(folder: Path, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """scripts/bootstrap.py of a copy of the project, after `code` has changed what the interpreter says of itself."""
    for name in ("constraints.txt", "pyproject.toml"):
        if not (folder / name).exists():
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "scripts", folder / "scripts", dirs_exist_ok=True)
    run = "sys.argv = ['bootstrap.py', 'run']; runpy.run_path('scripts/bootstrap.py', run_name='__main__')"
    script = f"import runpy, sys; {code or 'pass'}; {run}"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_old_python_without_a_newer_one(tmp_path: Path) -> None:
    said = complaint(bootstrap(tmp_path, "sys.version_info = (3, 9, 2, 'final', 0)", PATH=str(tmp_path)))
    assert "Python 3.11 or newer is needed" in said
    assert "3.9.2" in said


def test_bootstrap_is_readable_for_an_old_python() -> None:
    import ast

    ast.parse((ROOT / "scripts" / "bootstrap.py").read_text(), feature_version=(3, 6))


def test_pip_failure_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("torch==0.0.1\n")
    said = complaint(bootstrap(tmp_path, PIP_NO_INDEX="1"))
    assert "pip could not install the dependencies" in said
    assert "install.log" in said
    assert not list((tmp_path / ".venv").glob(".steelyard-*"))


def test_second_bootstrap_does_nothing(tmp_path: Path) -> None:
    stamp_all = (
        "import pathlib; pathlib.Path('.venv/bin').mkdir(parents=True); pathlib.Path('.venv/bin/python').touch()"
    )
    first = bootstrap(
        tmp_path,
        f"{stamp_all}; b = runpy.run_path('scripts/bootstrap.py'); "
        "pathlib.Path('.venv/.steelyard-test').write_text(b['fingerprint']('test'))",
    )
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert stat.S_ISREG((tmp_path / ".venv" / ".steelyard-test").stat().st_mode)
