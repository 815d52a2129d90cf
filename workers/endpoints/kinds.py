"""What each kind of server is sent for one response, and where its answer has the number."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from workers.data.schema import Message
from workers.endpoints.template import NoNumber, as_number, filled, number_at, parse_path, text_of

Kind = Literal["vllm_pooling", "vllm_classify", "tei_rerank", "custom_json"]
ROUTES: dict[str, str] = {"vllm_pooling": "/pooling", "vllm_classify": "/classify", "tei_rerank": "/rerank"}
COMPUTED_TOKENS = "x-compute-tokens"
"""How a TEI server says in a header what it has read."""


@dataclass(frozen=True)
class Protocol:
    """One kind of server as a config describes it."""

    kind: Kind
    url: str
    model: str = ""
    output: int | None = None
    template: Any = None
    score_path: str = ""
    tokens_path: str = ""
    extra_body: Mapping[str, Any] | None = None

    @property
    def address(self) -> str:
        """The route to post to: the url where it has a path other than /v1, else the route usual for the kind."""
        route = ROUTES.get(self.kind)
        path = urlsplit(self.url).path.rstrip("/")
        if route is None or (path and not path.endswith("/v1")):
            return self.url
        return self.url.rstrip("/").removesuffix("/v1") + route

    def body(self, prompt: Sequence[Message], response: Sequence[Message]) -> bytes:
        """The request as JSON."""
        return json.dumps(self._request(prompt, response), ensure_ascii=False).encode("utf-8", "replace")

    def _request(self, prompt: Sequence[Message], response: Sequence[Message]) -> Any:
        if self.kind == "custom_json":
            return filled(self.template, prompt, response)
        extra = dict(self.extra_body or {})
        if self.kind == "tei_rerank":
            # raw_scores: the number before the sigmoid; truncate: else long texts are refused
            texts = {"query": text_of(prompt), "texts": [text_of(response)]}
            return {**texts, "raw_scores": True, "truncate": True, **extra}
        messages = [{"role": m["role"], "content": m["content"]} for m in (*prompt, *response)]
        # Without use_activation off these servers answer with a sigmoid or softmax of the reward.
        asked: dict[str, Any] = {"messages": messages, "use_activation": False, "add_generation_prompt": False}
        if self.model:
            asked["model"] = self.model
        if self.kind == "vllm_pooling":
            asked["task"] = "classify"
        return {**asked, **extra}

    def read(self, answer: Any) -> float:
        """The reward in an answer. NoNumber says what is there instead."""
        if self.kind == "custom_json":
            return number_at(answer, parse_path(self.score_path), self.score_path)
        if self.kind == "tei_rerank":
            return self._reranked(answer)
        place = "data[0].probs" if self.kind == "vllm_classify" else "data[0].data"
        try:
            values = answer["data"][0]["probs" if self.kind == "vllm_classify" else "data"]
        except (KeyError, IndexError, TypeError):
            raise NoNumber(f"the answer has nothing at {place}") from None
        if not isinstance(values, list):
            return as_number(values, place)
        return self._chosen(values, place)

    def _chosen(self, values: list[Any], place: str) -> float:
        if self.output is None and len(values) != 1:
            raise NoNumber(
                f"the answer has {len(values)} values at {place}; the setting output says which is the reward"
            )
        index = self.output or 0
        if index >= len(values):
            raise NoNumber(f"the answer has {len(values)} values at {place}, none numbered {index}")
        return as_number(values[index], f"{place}[{index}]")

    def _reranked(self, answer: Any) -> float:
        if not isinstance(answer, list) or len(answer) != 1 or not isinstance(answer[0], dict):
            raise NoNumber("the answer is not a list of one rank")
        return as_number(answer[0].get("score"), "[0].score")

    def tokens(self, answer: Any, headers: Mapping[str, str]) -> int:
        """Tokens the server says it has read; 0 where it does not say."""
        if self.tokens_path:
            try:
                return max(0, int(number_at(answer, parse_path(self.tokens_path), self.tokens_path)))
            except NoNumber:
                return 0
        usage = answer.get("usage") if isinstance(answer, dict) else None
        told = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
        if isinstance(told, int) and not isinstance(told, bool):
            return max(0, told)
        header = headers.get(COMPUTED_TOKENS, "")
        return int(header) if header.isascii() and header.isdigit() and len(header) < 12 else 0
