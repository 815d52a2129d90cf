"""Import of n pairs from JSON Lines: pairs a second beside plain bulk_create, and memory, which must not grow.

    python -m bench.bench_import [N_PAIRS | --full]

Runs on a throw-away PostgreSQL with the settings of `make up` (everything reaches the disk). Prints one JSON line a
measurement. A file four times as long must not need more memory: that is checked.
"""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import orjson

from bench.machine import foreign_load
from steelyard.embedded import Cluster, embedded_url

FULL, SMALL, PLAIN = 1_000_000, 200_000, 10_000
MOST_GROWTH_MIB = 40
WORDS = ("the", "a", "of", "and", "prompt", "response", "model", "because", "which", "weight", "balance", "日本", "é")


def write_pairs(path: Path, n: int, rng: Random) -> None:
    """Pairs of realistic length: prompts of about 120 characters, responses of about 350."""
    bodies = [" ".join(rng.choices(WORDS, k=rng.randint(20, 110))) for _ in range(2000)]
    prompts = [" ".join(rng.choices(WORDS, k=rng.randint(8, 40))) for _ in range(500)]
    with path.open("wb") as out:
        for i in range(n):
            row = {
                "prompt": f"{prompts[i % 500]} {i}",
                "chosen": f"{rng.choice(bodies)} {i}",
                "rejected": rng.choice(bodies),
                "subset": f"s{i % 7}",
            }
            out.write(orjson.dumps(row) + b"\n")


@contextmanager
def site() -> Iterator[None]:
    """A database of our own and Django on it."""
    folder = Path(tempfile.mkdtemp(prefix="steelyard-bench-"))
    cluster = Cluster(folder, death_signal=signal.SIGQUIT)
    cluster.start()
    os.environ |= {"DJANGO_SETTINGS_MODULE": "steelyard.settings", "STEELYARD_DATABASE_URL": embedded_url(folder)}
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(what: str, **facts: Any) -> None:
    print(json.dumps({"bench": "import", "what": what, **facts}), flush=True)


def import_file(path: Path, n: int) -> float:
    """Through the service that page, API and command line use. Returns pairs a second."""
    from django.utils import timezone

    from annotator.models import Project
    from annotator.services.datasets import ImportRequest
    from annotator.services.search import index_fill
    from annotator.services.uploads import dataset_import_file
    from workers.data.rows import Limits

    project = Project.objects.create(name="bench")
    began, cpu = time.perf_counter(), time.process_time()
    with path.open("rb") as stream, foreign_load() as share:
        dataset = dataset_import_file(
            project=project,
            user=None,
            request=ImportRequest(name="bench", source_name=path.name),
            stream=stream,
            limits=Limits(),
            clock=timezone.now,
        )
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    rate = n / took_s
    assert dataset.n_examples == n, (dataset.n_examples, dataset.failure)
    say(
        "import", n_pairs=n, mib=round(path.stat().st_size / 2**20), s=round(took_s, 1), pairs_per_s=round(rate),
        own_cpu_s=round(cpu_s, 1), peak_rss_mib=round(peak_mib()), foreign_load=round(share.foreign, 2),
    )  # fmt: skip
    began = time.perf_counter()
    index_fill(dataset=dataset)
    took_s = time.perf_counter() - began
    say("search index, in the background", n_examples=n, s=round(took_s, 1), examples_per_s=round(n / took_s))
    return rate


def plain(path: Path, n: int) -> float:
    """The obvious way: json.loads and bulk_create, 1000 rows at a time, without any check. Returns pairs a second."""
    from uuid import uuid4

    from annotator.models import Dataset, Example, Preference, Project, Response

    dataset = Dataset.objects.create(project=Project.objects.create(name="plain"), name="plain")
    began = time.perf_counter()
    with path.open("rb") as lines:
        rows = [json.loads(line) for line in islice(lines, n)]
    for start in range(0, n, 1000):
        part = rows[start : start + 1000]
        examples = [
            Example(
                uid=uuid4(), dataset=dataset, position=start + i, prompt=message("user", row["prompt"]),
                meta={"subset": row["subset"]}, content_hash=digest(row), prompt_hash=digest(row["prompt"]),
            )
            for i, row in enumerate(part)
        ]  # fmt: skip
        Example.objects.bulk_create(examples)
        responses = [
            Response(uid=uuid4(), example=example, number=k, messages=message("assistant", row[key]))
            for example, row in zip(examples, part, strict=True)
            for k, key in enumerate(("chosen", "rejected"))
        ]
        Response.objects.bulk_create(responses)
        pairs = zip(examples, responses[0::2], responses[1::2], strict=True)
        Preference.objects.bulk_create(
            Preference(dataset=dataset, example=e, response_a=a, response_b=b, verdict="a") for e, a, b in pairs
        )
    rate = n / (time.perf_counter() - began)
    say("plain json.loads and bulk_create", n_pairs=n, pairs_per_s=round(rate))
    return rate


def message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def digest(value: Any) -> bytes:
    return blake2b(json.dumps(value).encode(), digest_size=16).digest()


def main(arguments: list[str]) -> None:
    n = FULL if "--full" in arguments else int(arguments[0]) if arguments else SMALL
    with tempfile.TemporaryDirectory() as folder, site():
        small, large = Path(folder) / "small.jsonl", Path(folder) / "large.jsonl"
        write_pairs(small, n // 4, Random(0))
        write_pairs(large, n, Random(1))
        import_file(small, n // 4)
        before = peak_mib()
        rate = import_file(large, n)
        growth = peak_mib() - before
        ratio = rate / plain(large, min(n, PLAIN))
        say("result", pairs_per_s=round(rate), times_bulk_create=round(ratio, 1), memory_growth_mib=round(growth))
        assert growth < MOST_GROWTH_MIB, f"memory grew by {growth:.0f} MiB with the file"


if __name__ == "__main__":
    main(sys.argv[1:])
