"""Two web processes over HTTP, kill -9, and a database that restarts: nothing lost, nothing doubled."""

import http.client
import json
import random
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from annotator.authentication import token_digest
from annotator.models import Assignment, Judgement, Queue, Role
from steelyard.embedded import Cluster, embedded_url
from steelyard.env import database_from_url
from tests.annotator.queue_helpers import answer, queue_of
from tests.annotator.test_race import check_invariants
from tests.factories import ApiTokenFactory, member
from tests.web import Web, test_database_url, web_processes

# The limit is the test's own: making the database of the session may take minutes on a busy machine.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300, func_only=True)]


class Rater:
    """A person's script: claims and answers over HTTP, repeating with the same key until it hears an answer."""

    def __init__(self, queue: Queue, number: int) -> None:
        user = member(queue.project, Role.ANNOTATOR)
        self.token = f"token-{number}-{uuid.uuid4().hex}"
        ApiTokenFactory(user=user, digest=token_digest(self.token))
        self.queue, self.rng = queue, random.Random(number)

    def call(self, web: Web, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        link = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
        try:
            headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
            link.request(method, f"/api/v1/{path}", json.dumps(body or {}), headers)
            response = link.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            link.close()

    def insist(self, webs: list[Web], method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """As a browser's outbox does: again until the server has answered."""
        deadline = time.monotonic() + 90
        while True:
            with suppress(OSError, http.client.HTTPException, ValueError):
                status, found = self.call(self.rng.choice(webs), method, path, body)
                if status < 500:
                    return status, found
            assert time.monotonic() < deadline, path
            time.sleep(0.2)

    def work(self, webs: list[Web], until_empty: int = 100) -> list[str]:
        keys = []
        for _ in range(until_empty):
            status, task = self.insist(webs, "POST", f"queues/{self.queue.uid}/claim/")
            if status == 204:
                break
            key = uuid.uuid4().hex
            body = {"answers": answer(), "active_seconds": 1, "idempotency_key": key}
            path = f"assignments/{task['assignment']['uid']}/submit/"
            for _ in range(self.rng.choice([1, 1, 2])):
                status, said = self.insist(webs, "POST", path, body)
                assert status == 201, said
            keys.append(key)
        return keys


def check_keys(queue: Queue, keys: list[str]) -> None:
    stored = list(Judgement.objects.filter(queue=queue).values_list("idempotency_key", flat=True))
    assert sorted(stored) == sorted(keys)


def test_thirty_two_raters_on_two_web_processes() -> None:
    queue = queue_of(20, overlap=8, now=timezone.now())
    people = [Rater(queue, number) for number in range(32)]
    with web_processes(2, test_database_url()) as webs, ThreadPoolExecutor(32) as pool:
        keys = [key for found in pool.map(lambda person: person.work(webs), people) for key in found]
    assert len(keys) == 160
    check_keys(queue, keys)
    check_invariants(queue, submitted=160)


def test_web_killed_in_the_middle_of_submits() -> None:
    """Six raters work while both processes are killed again and again, between submit and response too."""
    queue = queue_of(30, overlap=3, now=timezone.now())
    people = [Rater(queue, number) for number in range(6)]
    with web_processes(2, test_database_url(), STEELYARD_DATABASE_POOL="4") as webs:
        over = threading.Event()
        with ThreadPoolExecutor(7) as pool:
            killer = pool.submit(kill_in_turn, webs, over)
            try:
                keys = [key for found in pool.map(lambda person: person.work(webs), people) for key in found]
            finally:
                over.set()
        killer.result()  # a process that did not come back is said, not only written to the log
    assert len(keys) == 90
    check_keys(queue, keys)
    check_invariants(queue, submitted=90)


def kill_in_turn(webs: list[Web], over: threading.Event) -> None:
    n_killed = 0
    while not over.wait(0.4) and n_killed < 6:
        web = webs[n_killed % 2]
        web.kill()
        web.start()
        n_killed += 1


def test_killed_after_the_commit_before_anybody_heard() -> None:
    """The row is there, its answer was never read. The same key again brings that row and its body."""
    queue = queue_of(1, now=timezone.now())
    person = Rater(queue, 1)
    with web_processes(1, test_database_url()) as webs:
        _, task = person.insist(webs, "POST", f"queues/{queue.uid}/claim/")
        path = f"assignments/{task['assignment']['uid']}/submit/"
        body = {"answers": answer(), "active_seconds": 1, "idempotency_key": "once"}
        link = http.client.HTTPConnection("127.0.0.1", webs[0].port)
        headers = {"Authorization": f"Token {person.token}", "Content-Type": "application/json"}
        link.request("POST", f"/api/v1/{path}", json.dumps(body), headers)
        wait_until(Judgement.objects.exists)
        webs[0].kill()
        link.close()
        webs[0].start()
        status, said = person.insist(webs, "POST", path, body)
    assert status == 201
    assert said["judgement"]["uid"] == str(Judgement.objects.get().uid)


def test_killed_inside_the_transaction() -> None:
    """The submit waits for a lock when its process is killed: it leaves no trace, and the repeat counts once."""
    queue = queue_of(1, now=timezone.now())
    person = Rater(queue, 1)
    with web_processes(1, test_database_url()) as webs:
        _, task = person.insist(webs, "POST", f"queues/{queue.uid}/claim/")
        path = f"assignments/{task['assignment']['uid']}/submit/"
        body = {"answers": answer(), "active_seconds": 1, "idempotency_key": "once"}
        with locked_counters(), ThreadPoolExecutor(1) as pool:
            pending = pool.submit(person.call, webs[0], "POST", path, body)
            wait_until(has_waiting_backend)
            webs[0].kill()
            with pytest.raises((OSError, http.client.HTTPException)):
                pending.result(60)
        webs[0].start()
        status, said = person.insist(webs, "POST", path, body)
    assert status == 201
    judgement = Judgement.objects.get()
    assert said["judgement"]["uid"] == str(judgement.uid)


@contextmanager
def locked_counters() -> Iterator[None]:
    """Hold the counters of every rater locked, so that a submit waits inside its transaction."""
    from psycopg import connect

    with connect(test_database_url()) as holder:
        holder.execute("LOCK TABLE annotator_queuerater IN ACCESS EXCLUSIVE MODE")
        yield


def has_waiting_backend() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'")
        return bool(cursor.fetchone()[0])


def wait_until(claim: Any, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def own_cluster(django_db_blocker: Any) -> Iterator[Cluster]:
    """A PostgreSQL of its own, with durable settings, that this test may stop."""
    with tempfile.TemporaryDirectory(prefix="steelyard-restart-", dir="/tmp") as folder:
        cluster = Cluster(Path(folder), death_signal=signal.SIGQUIT)
        cluster.start()
        settings = connections["default"].settings_dict
        before = dict(settings)
        connections["default"].close()
        settings.update(database_from_url(embedded_url(Path(folder)), pool_size=0))
        from django.core.management import call_command

        try:
            call_command("migrate", verbosity=0)
            yield cluster
        finally:
            connections["default"].close()
            settings.update(before)
            cluster.stop()


def test_database_restarted_while_somebody_drafts(own_cluster: Cluster) -> None:
    queue = queue_of(3, now=timezone.now())
    person = Rater(queue, 1)
    with web_processes(1, test_database_url()) as webs:
        _, task = person.insist(webs, "POST", f"queues/{queue.uid}/claim/")
        path = f"assignments/{task['assignment']['uid']}"
        assert person.call(webs[0], "PUT", f"{path}/draft/", {"answers": answer("left", 1)}) == (200, {"version": 1})
        own_cluster.stop()
        connections["default"].close()
        with suppress(OSError, http.client.HTTPException):
            assert person.call(webs[0], "PUT", f"{path}/draft/", {"answers": answer("left", 2)})[0] >= 500
        own_cluster.start()
        status, _ = person.insist(webs, "PUT", f"{path}/draft/", {"answers": answer("right", 3)})
        assert status == 200
        status, again = person.insist(webs, "POST", f"queues/{queue.uid}/claim/")
        assert again["assignment"]["uid"] == task["assignment"]["uid"]
        assert again["assignment"]["draft"] == answer("right", 3)
        body = {"answers": answer("right", 3), "active_seconds": 1, "idempotency_key": "k"}
        assert person.insist(webs, "POST", f"{path}/submit/", body)[0] == 201
    assert Judgement.objects.count() == 1
    assert Assignment.objects.get().state == "submitted"
