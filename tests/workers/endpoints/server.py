"""A real HTTP server on a local port that answers like vLLM's pooling and text-embeddings-inference, and misbehaves.

What a response's text starts with says how it is answered: a fault is given `times` times for each text, then a score.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn


def reward_of(text: str) -> float:
    """The reward of this server's model: negative for short texts, so that a sigmoid would show."""
    return len(text) / 10 - 3


@dataclass
class RewardServer:
    """What came in, and what is to go wrong."""

    key: str = ""
    retry_after: str = "0.1"
    times: int = 1
    slow_s: float = 30.0
    down: bool = False
    port: int = 0
    arrivals: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    given: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.arrivals.append(time.monotonic())
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        self.bodies.append(json.loads(body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            status, headers, answer = await self.answer(scope["path"], self.bodies[-1], self.headers[-1])
        finally:
            self.in_flight -= 1
        listed = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": answer.encode()})

    async def answer(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return 401, {}, json.dumps({"error": f"wrong key {headers.get('authorization')}"})
        text = response_in(body)
        if text is None:
            return 404, {}, "no such route"
        await asyncio.sleep(0.005)
        if self.down:
            return 503, {}, "loading"
        fault = text.split(" ", 1)[0]
        if (found := self.fault(fault, text)) is not None:
            if fault == "slow":
                await asyncio.sleep(self.slow_s)
            return found
        return self.scored(path, body, text)

    def fault(self, fault: str, text: str) -> tuple[int, dict[str, str], str] | None:
        always = {
            "garbage": (200, {}, "<html>oops</html>"),
            "nan": (200, {}, '{"data": [{"data": [NaN]}]}'),
            "words": (200, {}, '{"data": [{"data": ["high"]}]}'),
            "empty": (200, {}, '{"data": []}'),
            "two": (200, {}, '{"data": [{"data": [0.1, 0.9]}]}'),
            "long": (400, {}, '{"error": "maximum context length is 4096"}'),
            "huge": (200, {}, "[" + "0," * 3_000_000 + "0]"),
        }
        if fault in always:
            return always[fault]
        passing = {
            "busy": (429, {"retry-after": self.retry_after}, "slow down"),
            "broken": (500, {}, "internal error"),
            "slow": (200, {}, '{"data": [{"data": [99.0]}]}'),
        }
        if fault in passing and self.given[text] < self.times:
            self.given[text] += 1
            return passing[fault]
        return None

    def scored(self, path: str, body: dict[str, Any], text: str) -> tuple[int, dict[str, str], str]:
        reward = reward_of(text)
        usage = {"prompt_tokens": len(text), "total_tokens": len(text)}
        if path == "/pooling":
            assert body["use_activation"] is False
            assert body["task"] == "classify"
            return 200, {}, json.dumps({"data": [{"index": 0, "object": "pooling", "data": [reward]}], "usage": usage})
        if path == "/classify":
            assert body["use_activation"] is False
            return 200, {}, json.dumps({"data": [{"index": 0, "label": "LABEL_0", "probs": [reward]}], "usage": usage})
        if path == "/rerank":
            assert body["raw_scores"] is True
            return 200, {"x-compute-tokens": str(len(text))}, json.dumps([{"index": 0, "score": reward}])
        if path == "/own":
            return 200, {}, json.dumps({"out": [{"r": reward}], "cost": {"tokens": 7}})
        return 404, {}, "no such route"


def response_in(body: dict[str, Any]) -> str | None:
    """The response's text of every kind of request."""
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    if "texts" in body:
        return str(body["texts"][0])
    return body.get("answer")


@contextmanager
def running(server: RewardServer) -> Iterator[RewardServer]:
    """Serve on a free port of this machine until the block ends."""
    config = uvicorn.Config(server, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    process = uvicorn.Server(config)
    thread = threading.Thread(target=process.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not process.started and time.monotonic() < until:
        time.sleep(0.01)
    server.port = process.servers[0].sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        process.should_exit = process.force_exit = True
        thread.join(10)
