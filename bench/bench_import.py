"""Import of n pairs from JSON Lines: pairs a second and peak memory, which must not grow with the file.

    python -m bench.bench_import [N_PAIRS]

Runs on a throw-away PostgreSQL with the settings of `make up` (everything reaches the disk).
"""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import orjson

from steelyard.embedded import Cluster, embedded_url

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


def run(path: Path, n: int) -> None:
    from django.utils import timezone

    from annotator.models import Project
    from annotator.services.datasets import ImportRequest
    from annotator.services.search import index_fill
    from annotator.services.uploads import dataset_import_file
    from workers.data.rows import Limits

    before = peak_mib()
    started = time.perf_counter()
    with path.open("rb") as stream:
        dataset = dataset_import_file(
            project=Project.objects.create(name="bench"),
            user=None,
            request=ImportRequest(name="bench", source_name=path.name),
            stream=stream,
            limits=Limits(),
            clock=timezone.now,
        )
    took_s = time.perf_counter() - started
    assert dataset.n_examples == n, (dataset.n_examples, dataset.failure)
    size = path.stat().st_size / 2**20
    print(f"import   {n:>9,} pairs  {size:,.0f} MiB  {took_s:.1f} s  {n / took_s:,.0f} pairs/s")
    print(f"memory   {before:.0f} MiB before, peak {peak_mib():.0f} MiB")
    started = time.perf_counter()
    index_fill(dataset=dataset)
    took_s = time.perf_counter() - started
    print(f"index    {n:>9,} examples  {took_s:.1f} s  {n / took_s:,.0f} examples/s (in the background)")


def main(arguments: list[str]) -> None:
    n = int(arguments[0]) if arguments else 200_000
    with tempfile.TemporaryDirectory() as folder, site():
        path = Path(folder) / "pairs.jsonl"
        write_pairs(path, n, Random(0))
        run(path, n)


if __name__ == "__main__":
    main(sys.argv[1:])
