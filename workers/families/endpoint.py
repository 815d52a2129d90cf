"""A reward model that runs on a server of its own and is asked over HTTP."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from workers.endpoints.addresses import KEY_PREFIX
from workers.endpoints.template import has_response, parse_path
from workers.families import FAMILIES
from workers.families.base import Scorer
from workers.specs import SpecModel


@FAMILIES.add("endpoint")
class Endpoint:
    """The reward comes from a server: vLLM, text-embeddings-inference, or anything that answers JSON with a number.

    Nothing is trained or computed here. Responses that the server gives no score for are named in the run's log and
    asked for again by the next run; the scores that came are kept.
    """

    title: ClassVar[str] = "Endpoint (a model on a server)"
    capabilities: ClassVar[frozenset[str]] = frozenset({"pointwise", "network"})
    trainable: ClassVar[bool] = False

    class Config(SpecModel):
        """Which server, how it is asked, and what it costs."""

        kind: Literal["vllm_pooling", "vllm_classify", "tei_rerank", "custom_json"] = Field(
            default="vllm_pooling", description="What the server speaks; custom_json: template and score_path say it."
        )
        url: str = Field(
            default="http://localhost:8000",
            max_length=2000,
            description="Of the server, or of its route. A private address must be opened by whoever runs the workers.",
        )
        model: str = Field(
            default="", max_length=300, description="Name of the model on the server, where it has several."
        )
        api_key_env: str = Field(
            default="",
            max_length=200,
            description=f"Environment variable of the workers that holds the key: {KEY_PREFIX}... Empty: none.",
        )
        api_key_header: str = Field(
            default="Authorization", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$", description="Header the key is sent in."
        )
        api_key_prefix: str = Field(
            default="Bearer ", max_length=40, pattern=r"^[ -~]*$", description="What stands before the key."
        )
        output: int | None = Field(
            default=None, ge=0, le=10000, description="vLLM: which value is the reward, where the model gives several."
        )
        template: dict[str, Any] | None = Field(
            default=None,
            description="custom_json: the body, with {prompt}, {response}, {messages}, {prompt_messages} or "
            "{response_messages} where those belong.",
        )
        score_path: str = Field(
            default="", max_length=300, description="custom_json: where the number is, such as data[0].score."
        )
        tokens_path: str = Field(
            default="", max_length=300, description="Where the answer says how many tokens it took, if not in usage."
        )
        extra_body: dict[str, Any] | None = Field(
            default=None, description="Further keys of the body, for servers that need them."
        )
        concurrency: int = Field(default=8, ge=1, le=256, description="Requests on their way at once.")
        requests_per_minute: int | None = Field(
            default=None, ge=1, le=1_000_000, description="At most so many; empty: as many as come back."
        )
        timeout_s: float = Field(default=60, gt=0, le=3600, description="Seconds to wait for one answer.")
        retries: int = Field(
            default=5,
            ge=0,
            le=20,
            description="Further tries after 408, 425, 429, 5xx or no answer, each after a pause.",
        )
        price_per_million_tokens: float | None = Field(
            default=None, ge=0, le=1e6, description="For the cost shown with the run; empty: not counted."
        )
        currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="Of the price.")

        @field_validator("url")
        @classmethod
        def _is_an_address(cls, value: str) -> str:
            try:
                parts = urlsplit(value)
                port = parts.port
            except ValueError as error:
                raise ValueError(f"not an address: {error}") from error
            if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
                raise ValueError("an address such as https://rewards.example.org or http://10.0.0.5:8000")
            if not value.isascii() or not value.isprintable() or " " in value:
                raise ValueError("an address of ASCII letters without spaces; write other names in punycode")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError(
                    "no name, password, query or fragment in the address: it is stored and shown. "
                    "A key belongs in an environment variable, named by api_key_env."
                )
            return value

        @field_validator("api_key_env")
        @classmethod
        def _is_a_key_variable(cls, value: str) -> str:
            name = value.removeprefix(KEY_PREFIX)
            if value and (name == value or not name.isidentifier() or not name.isascii() or name != name.upper()):
                raise ValueError(f"the name of a variable that starts with {KEY_PREFIX}, never the key itself")
            return value

        @field_validator("score_path", "tokens_path")
        @classmethod
        def _is_a_path(cls, value: str) -> str:
            parse_path(value)
            return value

        @model_validator(mode="after")
        def _fits_its_kind(self) -> Self:
            if self.kind == "custom_json":
                if self.template is None or not has_response(self.template):
                    raise ValueError("custom_json needs a template that holds {response}, {messages} or the like")
            elif self.template is not None or self.score_path:
                raise ValueError(f"template and score_path are for custom_json; {self.kind} has its own")
            return self

    @classmethod
    def open(cls, config: Config, path: Path | None, *, threads: int | None = None) -> Scorer:
        """A scorer that asks the server. JobError for an address or key that may not be used."""
        from workers.endpoints.client import Manners
        from workers.endpoints.kinds import Protocol
        from workers.endpoints.scorer import EndpointScorer

        protocol = Protocol(
            kind=config.kind,
            url=config.url,
            model=config.model,
            output=config.output,
            template=config.template,
            score_path=config.score_path,
            tokens_path=config.tokens_path,
            extra_body=config.extra_body,
        )
        manners = Manners(
            concurrency=config.concurrency,
            per_minute=config.requests_per_minute,
            timeout_s=config.timeout_s,
            n_retries=config.retries,
        )
        return EndpointScorer(
            protocol,
            manners=manners,
            api_key_env=config.api_key_env,
            key_header=config.api_key_header,
            key_prefix=config.api_key_prefix,
            price_per_million=config.price_per_million_tokens,
            currency=config.currency,
        )
