"""The embedded PostgreSQL by itself: where it listens, and what it recovers from."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from steelyard.embedded import MAX_SOCKET_PATH, Cluster, EmbeddedError, embedded_url, read_postmaster, socket_dir
from steelyard.env import database_from_url


@pytest.fixture
def var_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="steelyard-embedded-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def value(var_dir: Path, sql: str) -> object:
    with psycopg.connect(embedded_url(var_dir), autocommit=True) as connection:
        row = connection.execute(sql).fetchone()  # type: ignore[call-overload]
    return row and row[0]


def test_url_stays_below_the_limit_of_socket_paths() -> None:
    near, deep = Path("/srv/site/var"), Path("/srv", "x" * 200, "var")
    assert socket_dir(near) == near / "run" / "pg"
    assert socket_dir(deep) == socket_dir(deep) != socket_dir(deep / "other")
    assert len(str(socket_dir(deep) / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH
    assert database_from_url(embedded_url(deep), pool_size=0)["HOST"] == str(socket_dir(deep))


def test_odd_characters_in_the_path_survive_the_url() -> None:
    folder = Path("/srv/My Site & Co/über%20/var")
    assert database_from_url(embedded_url(folder), pool_size=0)["HOST"] == str(folder / "run" / "pg")


def test_server_starts_stops_and_keeps_its_rows(var_dir: Path) -> None:
    cluster = Cluster(var_dir)
    cluster.start()
    assert value(var_dir, "SHOW server_encoding") == "UTF8"
    assert value(var_dir, "SELECT datlocale FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert value(var_dir, "SHOW listen_addresses") == ""
    with psycopg.connect(embedded_url(var_dir)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS row")
    cluster.stop()
    assert read_postmaster(cluster.data) == (0, "")
    cluster.start()
    assert value(var_dir, "SELECT row FROM kept") == 7
    cluster.stop()


def test_server_killed_with_clients_comes_back(var_dir: Path) -> None:
    cluster = Cluster(var_dir)
    cluster.start()
    client = psycopg.connect(embedded_url(var_dir))
    client.execute("CREATE TABLE kept AS SELECT 7 AS row")
    client.commit()
    assert cluster.process is not None
    cluster.process.kill()  # leaves postmaster.pid, the socket and shared memory behind
    cluster.process.wait()
    cluster.start()
    assert value(var_dir, "SELECT row FROM kept") == 7
    client.close()
    cluster.stop()


def test_orphan_of_an_earlier_start_is_stopped_first(var_dir: Path) -> None:
    orphaned = Cluster(var_dir)
    orphaned.start()
    assert orphaned.process is not None
    orphan = psutil.Process(orphaned.process.pid)
    heir = Cluster(var_dir)
    heir.start()
    orphaned.process.wait(5)
    assert not orphan.is_running()
    assert value(var_dir, "SELECT 1") == 1
    heir.stop()


def test_lock_file_that_points_at_another_program_is_dropped(var_dir: Path) -> None:
    cluster = Cluster(var_dir)
    cluster.start()
    cluster.stop()
    with subprocess.Popen(["sleep", "60"]) as other:
        (cluster.data / "postmaster.pid").write_text(f"{other.pid}\n{cluster.data}\n1\n5432\n\n\n\nready\n")
        cluster.start()
        assert other.poll() is None
        other.kill()
    cluster.stop()


def test_half_made_server_of_an_interrupted_start_is_made_anew(var_dir: Path) -> None:
    (var_dir / "pg.new").mkdir()
    (var_dir / "pg.new" / "PG_VERSION").write_text("18\n")
    cluster = Cluster(var_dir)
    cluster.start()
    assert value(var_dir, "SELECT 1") == 1
    cluster.stop()


def test_server_that_cannot_start_says_why_in_one_line(var_dir: Path) -> None:
    cluster = Cluster(var_dir, settings={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedError) as caught:
        cluster.start()
    assert "shared_buffers" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another user")
def test_as_root_the_server_runs_as_somebody_else_below_a_private_folder(var_dir: Path) -> None:
    private = var_dir / "private"
    private.mkdir(mode=0o700)
    cluster = Cluster(private / "var", death_signal=signal.SIGQUIT)
    cluster.start()
    assert cluster.process is not None
    assert psutil.Process(cluster.process.pid).uids().real != 0
    assert (private / "var" / "pg").stat().st_mode & 0o077 == 0
    cluster.stop()
