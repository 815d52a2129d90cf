"""A Scorer that asks a server: what it answers well is kept, what it does not is named."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from workers.data.schema import Scores
from workers.endpoints.addresses import api_key, resolve
from workers.endpoints.client import Counts, ItemFailed, Manners, Pace, Poster, open_client
from workers.endpoints.kinds import Protocol
from workers.endpoints.template import NoNumber
from workers.errors import JobError
from workers.families.base import Item, no_report

LOOK_EVERY_S = 0.2
GIVE_UP_AFTER = 30
"""Failures in a row, each after its retries, that are taken for a server that is down."""
REASONS_SHOWN = 20
SUSPECT_FROM = 20


class EndpointScorer:
    """Scores by HTTP. A reward that could not be had is nan, and its part says why under "unscored".

    `stopped` is set when asking on makes no sense; what came before it is still in the Scores of that call.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        manners: Manners,
        api_key_env: str = "",
        key_header: str = "Authorization",
        key_prefix: str = "Bearer ",
        price_per_million: float | None = None,
        currency: str = "USD",
    ) -> None:
        self.protocol, self.manners = protocol, manners
        self.target = resolve(protocol.address)
        self.key = api_key(api_key_env, protocol.address)
        self.headers = {key_header: key_prefix + self.key} if self.key else {}
        self.price_per_million, self.currency = price_per_million, currency
        self.counts = Counts()
        self.stopped: JobError | None = None
        self.pace = Pace(manners.per_minute)
        self._failed_in_a_row = 0
        self._n_good = 0
        self._range = (math.inf, -math.inf)

    def score(self, items: Sequence[Item], *, on_batch: Callable[[int], None] = no_report) -> Scores:
        values = np.full(len(items), np.nan)
        n_tokens = np.zeros(len(items), dtype=np.int64)
        parts: list[dict[str, Any]] = [{"unscored": "it was not asked for"} for _ in items]
        done: list[int] = []
        asyncio.run(self._ask_all(items, values, n_tokens, parts=parts, done=done, on_batch=on_batch))
        if self.stopped and not np.isfinite(values).any():
            raise self.stopped
        return Scores(values, n_tokens, parts=parts)

    def report(self) -> dict[str, Any]:
        """What asking took, for the result of the run."""
        counts = self.counts
        told: dict[str, Any] = {
            "host": self.target.host_header,
            "n_requests": counts.n_requests,
            "n_retries": counts.n_retries,
            "n_tokens_billed": counts.n_tokens,
            "waited_s": round(counts.waited_s, 3),
            "errors": dict(sorted(counts.failed.items(), key=lambda entry: -entry[1])[:REASONS_SHOWN]),
        }
        if self.price_per_million is not None:
            told["cost"] = round(counts.n_tokens * self.price_per_million / 1e6, 6)
            told["currency"] = self.currency
        if self._n_good >= SUSPECT_FROM and self._range[0] >= 0 and self._range[1] <= 1:
            told["warning"] = (
                "All scores lie in [0, 1]: the server may have put a sigmoid over the rewards, which squeezes margins."
            )
        return told

    async def _ask_all(
        self,
        items: Sequence[Item],
        values: Any,
        n_tokens: Any,
        *,
        parts: list[dict[str, Any]],
        done: list[int],
        on_batch: Callable[[int], None],
    ) -> None:
        """Fill the arrays. `on_batch` is called from this task alone, several times a second."""
        queue = iter(range(len(items)))
        async with open_client(self.target, manners=self.manners, headers=self.headers) as client:
            poster = Poster(client, self.target, manners=self.manners, pace=self.pace, counts=self.counts, key=self.key)

            async def ask(places: Iterator[int]) -> None:
                for i in places:
                    if self.stopped:
                        return
                    values[i], n_tokens[i], parts[i] = await self._ask(poster, items[i])
                    done.append(i)

            workers = [asyncio.create_task(ask(queue)) for _ in range(min(self.manners.concurrency, len(items)))]
            try:
                await self._watch(workers, done, on_batch)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    @staticmethod
    async def _watch(
        workers: Sequence["asyncio.Task[None]"], done: Sequence[int], on_batch: Callable[[int], None]
    ) -> None:
        told, waiting = 0, set(workers)
        while waiting:
            finished, waiting = await asyncio.wait(waiting, timeout=LOOK_EVERY_S)
            for worker in finished:
                worker.result()  # a mistake of ours is raised, not kept
            on_batch(len(done) - told)
            told = len(done)

    async def _ask(self, poster: Poster, item: Item) -> tuple[float, int, dict[str, Any]]:
        """(reward, tokens, part) of one item; a failure is its part."""
        try:
            answer = await poster.post(self.protocol.body(item[0], item[1]))
            n_tokens = self.protocol.tokens(answer.value, answer.headers)
            self.counts.n_tokens += n_tokens  # paid for, whether the number in it is good or not
            reward = self.protocol.read(answer.value)
        except JobError as error:
            self.stopped = self.stopped or error
            return math.nan, 0, {"unscored": error.message}
        except (ItemFailed, NoNumber) as error:
            self._note_failure(error)
            return math.nan, 0, {"unscored": str(error)}
        self._failed_in_a_row = 0
        self._n_good += 1
        self._range = (min(self._range[0], reward), max(self._range[1], reward))
        return reward, n_tokens, {}

    def _note_failure(self, error: ItemFailed | NoNumber) -> None:
        reason = error.reason if isinstance(error, ItemFailed) else str(error)
        known = self.counts.failed
        if reason in known or len(known) < 10 * REASONS_SHOWN:
            known[reason] = known.get(reason, 0) + 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            self.stopped = JobError(
                f"{self._failed_in_a_row} responses in a row got no score from {self.target.host_header}; "
                f"the last: {error}.",
                "Scores that came before are kept. Look at the server and its settings, then score again.",
            )
