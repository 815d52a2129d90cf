"""Score texts that somebody typed: a conversation and its responses, by several checkpoints at once."""

import inspect
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from workers.context import JobContext
from workers.data.steps import misalignment
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.base import Item, Scorer
from workers.jobs import JOBS
from workers.person import Answered, Asked, Person, PersonContext, Turn, no_context, read_person, takes_pairs
from workers.specs import SpecModel, parse_spec

MOST_CHECKPOINTS = 50
MOST_RESPONSES = 20


class Text(SpecModel):
    """One response to score; a text by itself is one without steps."""

    messages: Answered = Field(description="The response: messages, nearly always one, or a text.")
    steps: list[str] = Field(
        default=[],
        max_length=1000,
        description="Its steps, for reward models that rate steps; joined they are its text. Empty: the model cuts it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"messages": value} if isinstance(value, str) else value

    @field_validator("messages")
    @classmethod
    def _says_something(cls, value: list[Turn]) -> list[Turn]:
        if not any(turn.content.strip() for turn in value):
            raise ValueError("a response with some text")
        return value


@JOBS.add("score_text")
class ScoreText:
    """Give typed responses their rewards, with everything each family tells besides. Nothing is stored but the run.

    A reward model that cannot read these texts says why, and the others go on.
    """

    title: ClassVar[str] = "Score typed responses"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """What to score, and with what."""

        checkpoints: list[str] = Field(min_length=1, max_length=MOST_CHECKPOINTS, description="uids of checkpoints.")
        prompt: Asked = Field(description="The conversation before the response: messages, or a text.")
        responses: list[Text] = Field(
            min_length=1, max_length=MOST_RESPONSES, description="Responses to the same conversation."
        )
        reference: str = Field(
            default="", max_length=100_000, description="A reference answer, for reward models that read one."
        )
        context: str = Field(
            default="", max_length=10_000, description="A criterion in words, for reward models that follow one."
        )
        person: Person | None = Field(
            default=None,
            description="Whose rewards, for reward models that know a person by pairs; the others are not asked.",
        )
        per_token: bool = Field(
            default=True, description="Ask the families that can for the reward of every token as well."
        )

        @field_validator("checkpoints")
        @classmethod
        def _differ(cls, value: list[str]) -> list[str]:
            if len(set(value)) < len(value):
                raise ValueError("every checkpoint once")
            return value

        @field_validator("prompt")
        @classmethod
        def _asks_something(cls, value: list[Turn]) -> list[Turn]:
            if not any(turn.content.strip() for turn in value):
                raise ValueError("a conversation with some text")
            return value

        @field_validator("responses")
        @classmethod
        def _steps_fit(cls, value: list[Text]) -> list[Text]:
            for number, text in enumerate(value, start=1):
                whole = "\n\n".join(turn.content for turn in text.messages)
                if text.steps and (why := misalignment(whole, text.steps)):
                    raise ValueError(f"the steps of response {number} are not its text: {why}")
            return value

    @staticmethod
    def needs_preferences(*_: Any) -> bool:
        return False

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        keep_freed_memory()
        started = time.monotonic()
        person = read_person(ctx, spec.person) if spec.person else None
        items, rows = items_of(spec, person), []
        for number, uid in enumerate(spec.checkpoints):
            ctx.checkpoint()
            ctx.progress(number, len(spec.checkpoints), f"Reward model {number + 1} of {len(spec.checkpoints)}")
            rows.append(told_by(ctx, uid, items, per_token=spec.per_token, is_personal=person is not None))
        ctx.progress(len(rows), len(rows), "All reward models have been asked")
        return {
            "rewards": rows,
            **({"person": told_of(spec, person)} if person else {}),
            "n_scored": sum(value is not None for row in rows for value in row["values"]),
            "n_unscored": sum(value is None for row in rows for value in row["values"]),
            "seconds": round(time.monotonic() - started, 3),
            "peak_rss_mib": round(peak_rss_mib()),
            "environment": describe_environment(),
        }


def told_of(spec: Any, person: PersonContext) -> dict[str, Any]:
    """Whom the rewards are of: {rater, n_pairs, n_same_prompt}, the last left out as they hold the answer."""
    own = person.of([turn.model_dump() for turn in spec.prompt])
    return {"rater": spec.person.rater, "n_pairs": len(own), "n_same_prompt": len(person.pairs) - len(own)}


def items_of(spec: Any, person: PersonContext | None = None) -> list[Item]:
    """The texts as families take them. A person's pairs take the place of a criterion: both are an item's context."""
    prompt = [turn.model_dump() for turn in spec.prompt]
    shared: dict[str, Any] = {}
    if spec.reference.strip():
        shared["reference"] = [{"role": "assistant", "content": spec.reference}]
    if spec.context.strip():
        shared["context"] = spec.context
    if person is not None:
        shared["context"] = person.of(prompt)
    return [
        (
            prompt,
            [turn.model_dump() for turn in text.messages],
            {**shared, **({"steps": text.steps} if text.steps else {})},
        )
        for text in spec.responses
    ]


def told_by(
    ctx: JobContext, uid: str, items: Sequence[Item], *, per_token: bool, is_personal: bool = False
) -> dict[str, Any]:
    """What one checkpoint says: {checkpoint, family, values, parts, reasons, error, seconds}, lists by response.

    A value is None where there is no reward; then `reasons` says why, or `error` why the model could not be asked.
    """
    started = time.monotonic()
    reference = ctx.load_checkpoint(uid)
    row: dict[str, Any] = {"checkpoint": uid, "family": reference.family, "error": None}
    empty: dict[str, Any] = {name: [None] * len(items) for name in ("values", "parts", "reasons")}
    try:
        family: Any = FAMILIES.get(reference.family)
        if is_personal and not takes_pairs(reference.family):
            raise JobError(no_context(reference.family), "Leave the person out to ask it.")
        config = parse_spec(family.Config, reference.config)
        reasons = [_unfit(family, config, item) for item in items]
        fitting = [i for i, reason in enumerate(reasons) if reason is None]
        if fitting:
            scorer = _open(family, config, reference.path, per_token=per_token)
            scores = scorer.score([items[i] for i in fitting], on_batch=lambda _: ctx.checkpoint())
            found = _by_item(fitting, scores, reasons, n=len(items))
            row |= {"n_truncated": scores.n_truncated, "n_response_cut": scores.n_response_cut, **found}
        else:
            row |= {**empty, "reasons": reasons}
    except JobError as error:
        ctx.log(f"Checkpoint {uid} was not asked: {error.message}", "warning")
        row |= {**empty, "error": {"message": error.message, "hint": error.hint}}
    return {**row, "seconds": round(time.monotonic() - started, 3)}


def _unfit(family: Any, config: Any, item: Item) -> str | None:
    check = getattr(family, "unfit", None)
    found: str | None = check(config, item) if check else None
    return found


def _open(family: Any, config: Any, path: Any, *, per_token: bool) -> Scorer:
    """Tokens are told only by a scorer that was opened for it: it costs what a reward alone does not."""
    asks = per_token and "per_token" in inspect.signature(family.open).parameters
    scorer: Scorer = family.open(config, path, **({"per_token": True} if asks else {}))
    return scorer


def _by_item(fitting: Sequence[int], scores: Any, reasons: list[str | None], *, n: int) -> dict[str, Any]:
    values: list[float | None] = [None] * n
    parts: list[Mapping[str, Any] | None] = [None] * n
    for place, i in enumerate(fitting):
        part = dict(scores.parts[place]) if scores.parts else {}
        value = float(scores.values[place])
        reasons[i] = part.pop("unscored", None) or (None if math.isfinite(value) else "its reward is not a number")
        values[i] = value if reasons[i] is None else None
        parts[i] = part or None
    return {"values": values, "parts": parts, "reasons": reasons}
