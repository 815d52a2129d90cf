"""A site for queue benchmarks: an own PostgreSQL with its usual (durable) settings, one web process, many raters."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil

from steelyard.embedded import Cluster, embedded_url

ROOT = Path(__file__).resolve().parent.parent
RESPONSE = "This is an answer of ordinary length. " * 12


@dataclass
class Site:
    """A running site and its one web process."""

    port: int
    web: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def web_cpu_s(self) -> float:
        """Processor time of the web process so far: on a shared machine it says more than the clock."""
        times = self.web.cpu_times()
        return float(times.user + times.system)


@contextmanager
def site(port: int, **environment: str) -> Iterator[Site]:
    """Run database and web process. Django of this process uses the same database."""
    with tempfile.TemporaryDirectory(prefix="steelyard-bench-", dir="/tmp") as folder:
        cluster = Cluster(Path(folder))
        cluster.start()
        os.environ |= {
            "STEELYARD_DATABASE_URL": embedded_url(Path(folder)),
            "STEELYARD_HOME": folder,
            "DJANGO_SETTINGS_MODULE": "steelyard.settings",
            "STEELYARD_LOG_LEVEL": "WARNING",
            **environment,
        }
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        web = subprocess.Popen([sys.executable, "-m", "steelyard.web", "--port", str(port)], cwd=ROOT)
        try:
            wait_for(f"http://127.0.0.1:{port}/login/")
            yield Site(port, psutil.Process(web.pid))
        finally:
            web.terminate()
            web.wait(10)
            from django.db import connection

            connection.close()
            cluster.stop()


def wait_for(url: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            urlopen(url, timeout=2).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def make_dataset(n_examples: int):
    """A dataset of pairs, made inside PostgreSQL."""
    from django.db import connection

    from annotator.models import Dataset, Project

    project, _ = Project.objects.get_or_create(name="Benchmark")
    dataset = Dataset.objects.create(
        project=project, name=f"{n_examples} pairs", state="ready", n_examples=n_examples, n_responses=2 * n_examples
    )
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO annotator_example (uid, dataset_id, position, prompt, meta, content_hash, prompt_hash)
            SELECT gen_random_uuid(), %(d)s, n, jsonb_build_array(jsonb_build_object(
                     'role', 'user', 'content', 'Question ' || n || ': what is best?')),
                   '{}', decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex')
            FROM generate_series(1, %(n)s) AS n""",
            {"d": dataset.pk, "n": n_examples},
        )
        cursor.execute(
            """
            INSERT INTO annotator_response (uid, example_id, number, messages, source_model, meta)
            SELECT gen_random_uuid(), e.id, number, jsonb_build_array(jsonb_build_object(
                     'role', 'assistant', 'content', number || %(text)s)), 'model', '{}'
            FROM annotator_example AS e CROSS JOIN generate_series(0, 1) AS number WHERE e.dataset_id = %(d)s""",
            {"d": dataset.pk, "text": RESPONSE},
        )
        cursor.execute("ANALYZE annotator_example, annotator_response")
    return dataset


def make_queue(dataset, overlap: int):
    """Queue over the dataset, built as the worker builds it. Returns it with the seconds that took."""
    import random

    from django.db import connection
    from django.utils import timezone

    from annotator.services.queues import queue_build, queue_create

    began = time.perf_counter()
    queue = queue_create(
        project=dataset.project,
        dataset=dataset,
        name=dataset.name,
        form=[{"type": "pairwise", "points": 7}],
        created_by=None,
        now=timezone.now(),
        rng=random.Random(1),
        overlap=overlap,
        order_policy="breadth",
    )
    queue_build(queue=queue)
    seconds = time.perf_counter() - began
    queue.refresh_from_db()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE annotator_slot, annotator_item")
    return queue, seconds


def make_raters(n: int) -> list[str]:
    """Tokens of n annotators of the benchmark's project."""
    from annotator.authentication import token_digest
    from annotator.models import ApiToken, Membership, Project, User

    project, _ = Project.objects.get_or_create(name="Benchmark")
    tokens = []
    for number in range(n):
        user, _ = User.objects.get_or_create(username=f"rater{number}")
        Membership.objects.get_or_create(project=project, user=user, defaults={"role": "annotator"})
        token = f"bench-token-{number:04d}"
        ApiToken.objects.get_or_create(
            digest=token_digest(token), defaults={"user": user, "name": "bench", "prefix": token[:8]}
        )
        tokens.append(token)
    return tokens
