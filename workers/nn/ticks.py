"""Signs of life from the inside of a computation."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Throttle:
    """Call `report` at most every `every_s` seconds."""

    report: Callable[[], None]
    every_s: float = 0.2
    last: float = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.last >= self.every_s:
            self.last = now
            self.report()
