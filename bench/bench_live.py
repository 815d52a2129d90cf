"""Live updates: from commit to the message at each of n open sockets of one run's page.

    python -m bench.bench_live [--sockets 500] [--pokes 40]

One web process, a throw-away PostgreSQL; the client shares the machine. Every socket must get every poke.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psycopg

from steelyard.embedded import Cluster, embedded_url

TARGET_P95_S = 0.3


def prepare() -> tuple[str, str]:
    """A member with a session and a run to watch; returns (session key, topic)."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth import get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    from annotator.models import Membership, Project
    from rmeval.models import Run

    user = get_user_model().objects.create_user("watcher")
    project = Project.objects.create(name="live")
    Membership.objects.create(project=project, user=user, role="lead")
    run = Run.objects.create(project=project, kind="train_rm", spec={})
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key), f"run.{run.uid}"


def start_web(port: int) -> "subprocess.Popen[bytes]":
    web = subprocess.Popen([sys.executable, "-m", "steelyard.web", "--port", str(port)])
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2)
        except OSError:
            time.sleep(0.1)
        else:
            return web
    raise RuntimeError("the web process does not answer")


async def watch(url: str, cookie: str, arrivals: list[tuple[int, float]], ready: asyncio.Semaphore) -> None:
    from websockets.asyncio.client import connect

    headers = {"Cookie": f"steelyard_session={cookie}", "Origin": url.replace("ws:", "http:").split("/live")[0]}
    async with connect(url, additional_headers=headers, open_timeout=60) as socket_:
        async for raw in socket_:
            message = json.loads(raw)
            if message["event"] == "ready":
                ready.release()
            else:
                arrivals.append((int(message["event"]), time.perf_counter()))


async def measure(port: int, cookie: str, topic: str, n_sockets: int, n_pokes: int) -> list[float]:
    arrivals: list[tuple[int, float]] = []
    ready = asyncio.Semaphore(0)
    url = f"ws://127.0.0.1:{port}/live/?topics={topic}"
    watchers = [asyncio.create_task(watch(url, cookie, arrivals, ready)) for _ in range(n_sockets)]
    for _ in range(n_sockets):
        await asyncio.wait_for(ready.acquire(), 120)
    committed: list[float] = []
    async with await psycopg.AsyncConnection.connect(os.environ["STEELYARD_DATABASE_URL"], autocommit=True) as database:
        for number in range(n_pokes):
            payload = json.dumps({"topic": topic, "event": str(number)})
            await database.execute("SELECT pg_notify('live', %s)", [payload])
            committed.append(time.perf_counter())
            await asyncio.sleep(0.5)  # jobs poke at most twice a second
    await asyncio.sleep(1)
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    return [at - committed[number] for number, at in arrivals]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--pokes", type=int, default=40)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="steelyard-bench-"))
    cluster = Cluster(folder, death_signal=signal.SIGQUIT)
    cluster.start()
    os.environ |= {"DJANGO_SETTINGS_MODULE": "steelyard.settings", "STEELYARD_DATABASE_URL": embedded_url(folder)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    web = None
    try:
        cookie, topic = prepare()
        web = start_web(port)
        delays = sorted(asyncio.run(measure(port, cookie, topic, options.sockets, options.pokes)))
        p95 = delays[int(0.95 * len(delays))]
        expected = options.sockets * options.pokes
        row = {
            "bench": "live", "sockets": options.sockets, "pokes": options.pokes, "delivered": len(delays),
            "lost": expected - len(delays), "p50_s": round(delays[len(delays) // 2], 4), "p95_s": round(p95, 4),
            "max_s": round(delays[-1], 4), "target_p95_s": TARGET_P95_S, "is_met": p95 < TARGET_P95_S,
        }  # fmt: skip
        print(json.dumps(row))
    finally:
        if web is not None:
            web.terminate()
            web.wait(10)
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
