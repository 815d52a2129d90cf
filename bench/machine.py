"""What the machine can do at most, and how much of it others took meanwhile."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass
class Share:
    """Part of the machine that other processes took during a measurement."""

    foreign: float = 0.0


@contextmanager
def foreign_load() -> Iterator[Share]:
    share, started = Share(), time.perf_counter()
    busy, own = _busy_s(), own_cpu_s()
    yield share
    wall = time.perf_counter() - started
    share.foreign = max(0.0, (_busy_s() - busy - (own_cpu_s() - own)) / (wall * (os.cpu_count() or 1)))


def matmul_ceiling(seconds: float = 3.0) -> float:
    """Best GFLOP/s of float32 products of the encoder's own shapes, with torch's threads as they are set."""
    import torch

    best, until = 0.0, time.monotonic() + seconds
    shapes = [(rows, 384, inner) for rows in (1024, 2048, 4096) for inner in (384, 1536)]
    operands = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in shapes]
    while time.monotonic() < until:
        for (m, k, n), (left, right) in zip(shapes, operands, strict=True):
            started = time.perf_counter()
            left @ right
            best = max(best, 2 * m * k * n / (time.perf_counter() - started) / 1e9)
    return best


def _busy_s() -> float:
    with open("/proc/stat") as stat:
        fields = [float(x) for x in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    """This process, its living children, and those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    me = psutil.Process()
    living = [p.cpu_times() for p in (me, *me.children(recursive=True))]
    return ended.ru_utime + ended.ru_stime + sum(t.user + t.system for t in living)
