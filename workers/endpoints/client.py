"""Post many small requests to one server: so many at once, so many a minute, again after what passes.

What a server may answer for a while (429, 5xx, nothing at all) is tried again, later each time or when the server says
so. What it will always answer (no such key, no such route) ends the run at once. The rest fails for that item alone.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from workers.endpoints.addresses import Target
from workers.errors import JobError

if TYPE_CHECKING:
    import httpx

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
HOPELESS = {
    401: "refuses the key (401)",
    403: "refuses access (403)",
    404: "has no such route or model (404)",
    405: "takes no POST at this route (405)",
}
MAX_ANSWER_BYTES = 4 * 2**20
SHOWN = 200
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0


class ItemFailed(Exception):
    """One item got no score; `reason` is the same for the same cause, `detail` may say more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back with a 2xx: the JSON, and the headers."""

    value: Any
    headers: Mapping[str, str]


@dataclass
class Counts:
    """What asking has taken so far."""

    n_requests: int = 0
    n_retries: int = 0
    n_tokens: int = 0
    waited_s: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manners:
    """How a server is asked."""

    concurrency: int = 8
    per_minute: int | None = None
    timeout_s: float = 60.0
    n_retries: int = 5
    longest_wait_s: float = 300.0
    """A server that asks for a longer pause than this gets no more requests for that item."""


class Pace:
    """Hands out moments to send at: evenly spaced under a rate, and none while the server wants a pause."""

    def __init__(self, per_minute: int | None) -> None:
        self.gap = 60.0 / per_minute if per_minute else 0.0
        self.next_at = 0.0
        self.paused_until = 0.0

    def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, time.monotonic() + seconds)

    async def turn(self) -> float:
        """Wait for a moment of one's own; how long that took."""
        started = now = time.monotonic()
        if self.gap:
            mine = max(now, self.next_at)
            self.next_at = mine + self.gap
            await asyncio.sleep(mine - now)
        while (wait := self.paused_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return time.monotonic() - started


class Poster:
    """Posts bodies to one address over the connections of one `httpx.AsyncClient`, which the caller opens."""

    def __init__(
        self, client: "httpx.AsyncClient", target: Target, *, manners: Manners, pace: Pace, counts: Counts, key: str
    ) -> None:
        self.client, self.target, self.key = client, target, key
        self.manners, self.pace, self.counts = manners, pace, counts

    async def post(self, body: bytes) -> "Answer":
        """A good answer. ItemFailed when it stays bad, JobError when all would."""
        for attempt in range(self.manners.n_retries + 1):
            if attempt:
                self.counts.n_retries += 1
            self.counts.waited_s += await self.pace.turn()
            found = await self._try(body)
            if isinstance(found, Answer):
                return found
            failure, pause = found
            if attempt == self.manners.n_retries or pause is None:
                raise failure
            await self._wait(attempt, pause, failure)
        raise AssertionError("the loop above returns or raises")

    async def _try(self, body: bytes) -> "Answer | tuple[ItemFailed, float | None]":
        """An answer, or what failed and for how many seconds the server asks to wait; None: trying again is no use."""
        import httpx

        self.counts.n_requests += 1
        try:
            named = {"sni_hostname": self.target.hostname}  # certificates are of the name, the connection of the number
            async with (
                asyncio.timeout(self.manners.timeout_s),  # for all of it: a server may send a byte now and then
                self.client.stream("POST", self.target.url, content=body, extensions=named) as response,
            ):
                text = await _bounded(response)
                status, headers = response.status_code, response.headers
        except (TimeoutError, httpx.TimeoutException):
            return ItemFailed("no answer in time", f"{self.manners.timeout_s:g} s"), 0.0
        except httpx.HTTPError as error:  # no connection, a broken one, or an answer that is no HTTP
            return ItemFailed("no connection", self.shown(str(error) or type(error).__name__)), 0.0
        if status in HOPELESS:
            raise JobError(f"The server {HOPELESS[status]}: {self.shown(text)}", "Check url, model and api_key_env.")
        if status in PASSING:
            return ItemFailed(f"answered {status}", self.shown(text)), _asked_pause(headers.get("retry-after", ""))
        if not 200 <= status < 300:
            return ItemFailed(f"answered {status}", self.shown(text)), None
        try:
            return Answer(json.loads(text), headers)
        except (ValueError, RecursionError):
            return ItemFailed("the answer is not JSON", self.shown(text)), None

    async def _wait(self, attempt: int, asked: float, failure: ItemFailed) -> None:
        if asked > self.manners.longest_wait_s:
            raise ItemFailed(failure.reason, f"it asks for a pause of {asked:g} s")
        if asked:
            self.pace.pause(asked)  # for all requests: the server speaks of its load, not of this item
            return
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
        wait = longest * (0.5 + random.random() / 2)
        self.counts.waited_s += wait
        await asyncio.sleep(wait)

    def shown(self, text: str) -> str:
        """The start of what a server says, on one line; a key that it echoes is not passed on."""
        line = " ".join(text.split())
        return (line.replace(self.key, "***") if self.key else line)[:SHOWN]


def open_client(target: Target, *, manners: Manners, headers: Mapping[str, str]) -> "httpx.AsyncClient":
    """A client whose every request goes to one checked address: no redirects, no proxies from the environment."""
    import httpx

    limits = httpx.Limits(max_connections=manners.concurrency, max_keepalive_connections=manners.concurrency)
    return httpx.AsyncClient(
        headers={**headers, "Host": target.host_header, "Content-Type": "application/json", "User-Agent": "steelyard"},
        timeout=httpx.Timeout(manners.timeout_s, pool=None),
        limits=limits,
        follow_redirects=False,
        trust_env=False,
    )


async def _bounded(response: "httpx.Response") -> str:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            return "(an answer of more than 4 MiB)"
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _asked_pause(header: str) -> float:
    """Seconds of a Retry-After header, given as a number or as a date; 0 where there is none."""
    text = header.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
