"""Score with several processes, usually one a core on one thread each: for large inputs on machines without a GPU.

Threads of one process wait for each other at every layer; processes do not. The children are plain programs that speak
JSON lines over pipes, so this works from any parent, a daemonic Celery child included, and needs no pickle.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heapreplace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from workers.context import CheckpointRef
from workers.data.schema import Scores
from workers.errors import JobError
from workers.families.base import Item, no_report

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY_S = 0.2


@dataclass
class ParallelScorer:
    """A Scorer that deals items out to child processes, by prompt. Rewards are those of one process."""

    children: Sequence["subprocess.Popen[bytes]"]
    lines: "SimpleQueue[tuple[int, bytes]]"
    """What the children write, with the number of the child; an empty line at its end."""
    token_budget: int | None = None
    """Tokens of a batch; None: what the scorer takes by itself."""

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        shares = dealt(items, len(self.children))
        values = np.empty(len(items), dtype=np.float64)
        n_tokens = np.zeros(len(items), dtype=np.int64)
        for child, share in zip(self.children, shares, strict=True):
            _send(child, {"items": [items[i] for i in share], "token_budget": self.token_budget})
        cut = [0, 0]
        parts: list[Any] = [None] * len(items)
        for number, told in self._answers(on_batch):
            values[shares[number]] = told["values"]
            n_tokens[shares[number]] = told["n_tokens"]
            cut[0] += told["n_truncated"]
            cut[1] += told["n_response_cut"]
            for place, found in zip(shares[number], told["parts"] or (), strict=False):
                parts[place] = found
        has_parts = any(part is not None for part in parts)
        return Scores(values, n_tokens, n_truncated=cut[0], n_response_cut=cut[1], parts=parts if has_parts else None)

    def _answers(self, on_batch: Callable[[int], None]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The answer of every child as it comes, with signs of life in between."""
        waiting = set(range(len(self.children)))
        while waiting:
            try:
                number, line = self.lines.get(timeout=LOOK_EVERY_S)
            except Empty:
                on_batch(0)
                continue
            told = _told(self.children[number], line)
            if "done" in told:
                on_batch(told["done"])
            else:
                waiting.remove(number)
                yield number, told


@contextmanager
def parallel_scorer(
    reference: CheckpointRef, n_processes: int, *, threads: int | None = None, token_budget: int | None = None
) -> Iterator["ParallelScorer"]:
    """Start the children, and end them whatever happens. A child whose parent was killed ends by itself."""
    threads = threads or 1
    path = str(reference.path)
    about = {"family": reference.family, "config": reference.config, "path": path, "threads": threads}
    command = [sys.executable, "-m", "workers.scoring_process", json.dumps(about)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
        for _ in range(n_processes)
    ]
    lines: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
    readers = [Thread(target=_read, args=(child, n, lines), daemon=True) for n, child in enumerate(children)]
    for reader in readers:
        reader.start()
    try:
        yield ParallelScorer(children, lines, token_budget)
    finally:
        for child, reader in zip(children, readers, strict=True):
            child.kill()
            child.wait()
            reader.join()
            _pipe(child.stdout).close()
            _close_quietly(_pipe(child.stdin))


def _send(child: "subprocess.Popen[bytes]", asked: dict[str, Any]) -> None:
    try:
        pipe = _pipe(child.stdin)
        pipe.write(json.dumps(asked).encode() + b"\n")
        pipe.flush()
    except BrokenPipeError as error:
        raise _died(child) from error


def _read(child: "subprocess.Popen[bytes]", number: int, lines: "SimpleQueue[tuple[int, bytes]]") -> None:
    for line in _pipe(child.stdout):
        lines.put((number, line))
    lines.put((number, b""))


def _told(child: "subprocess.Popen[bytes]", line: bytes) -> dict[str, Any]:
    if not line:
        raise _died(child)
    told: dict[str, Any] = json.loads(line)
    if "error" in told:
        raise JobError(told["error"], told["hint"])
    return told


def _died(child: "subprocess.Popen[bytes]") -> JobError:
    return JobError(
        f"A scoring process ended without an answer (exit status {child.wait()}).",
        "If the machine ran out of memory, score with fewer processes or a smaller max_length.",
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without pipes")
    return pipe


def _close_quietly(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # it was killed with bytes still on the way


def dealt(items: Sequence[Item], n_shares: int) -> list[NDArray[np.int64]]:
    """Indices for each child, alike in characters. Responses to one prompt stay together: it may be read once then."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(tuple((m["role"], m["content"]) for m in item[0]), []).append(index)
    size = {key: sum(_characters(items[i]) for i in found) for key, found in groups.items()}
    loads = [(0, number) for number in range(n_shares)]  # a heap, so that each group goes where least is
    shares: list[list[int]] = [[] for _ in range(n_shares)]
    for key in sorted(groups, key=lambda key: -size[key]):
        load, number = loads[0]
        shares[number] += groups[key]
        heapreplace(loads, (load + size[key], number))
    return [np.array(share, dtype=np.int64) for share in shares]


def _characters(item: Item) -> int:
    return sum(len(message["content"]) for turns in item[:2] for message in turns)
