"""Run an iterator ahead in a thread, so that parsing and the database work at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Generic, TypeVar, cast

T = TypeVar("T")
LOOK_EVERY_S = 0.2


class _Ahead(Generic[T]):
    """The thread's side: items go into a short queue; an error or the end goes last."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.items = items
        self.ready: queue.Queue[tuple[str, T | Exception | None]] = queue.Queue(depth)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="import-reader", daemon=True)

    def run(self) -> None:
        try:
            for item in self.items:
                if not self.put("item", item):
                    return
        except Exception as error:  # noqa: BLE001 - raised again in the thread that takes the items
            self.put("error", error)
        else:
            self.put("end", None)

    def put(self, kind: str, value: T | Exception | None) -> bool:
        while not self.stopped.is_set():
            try:
                self.ready.put((kind, value), timeout=LOOK_EVERY_S)
            except queue.Full:
                continue
            return True
        return False


def prefetched(items: Iterable[T], *, depth: int = 2) -> Generator[T, None, None]:
    """The same items in the same order, at most `depth` of them waiting; an error comes after the items before it.

    Close the generator (or walk it to its end) and the thread is gone.
    """
    ahead = _Ahead(items, depth)
    ahead.thread.start()
    try:
        while True:
            kind, value = ahead.ready.get()
            if kind == "error":
                raise cast(Exception, value)
            if kind == "end":
                return
            yield cast(T, value)
    finally:
        ahead.stopped.set()
        ahead.thread.join()
