"""The rows that move between readers, the database, training and scoring. numpy alone is needed here."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["a", "b", "tie", "both_bad"]


class Message(TypedDict):
    role: str
    content: str


def prompt_key(prompt: Sequence[Message]) -> str:
    """Hash of a prompt's turns: pairs of one prompt never sit on both sides of a split."""
    canonical = json.dumps([[m["role"], m["content"]] for m in prompt], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two responses to one prompt and what was said of them."""

    pair_id: str
    prompt: list[Message]
    response_a: list[Message]
    response_b: list[Message]
    verdict: Verdict
    preference_strength: int | None = None
    """1 slightly, 2 clearly, 3 much better; None where it was not asked."""
    weight: float = 1.0
    response_a_id: int | None = None
    response_b_id: int | None = None
    example_id: int | None = None
    prompt_key: str = ""
    """Unit of the train/validation split; made from the prompt when left empty."""
    source: str = ""
    """Where the verdict comes from, for objectives and figures by source."""
    rater: str = ""
    """Who gave the verdict, where that is known."""
    soft_target: float | None = None
    """P(response_a is preferred) from the shares of several raters; None where there is one verdict."""
    reference: list[Message] | None = None
    """A reference answer to the prompt, for families that compare with one."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    flip_chance: float = 0.0
    """P(the verdict is the wrong way round) as an edit of the data says, in [0, 0.5)."""

    def __post_init__(self) -> None:
        if not self.prompt_key:
            object.__setattr__(self, "prompt_key", prompt_key(self.prompt))

    @property
    def signed_strength(self) -> int:
        """-3..3 as HelpSteer2-Preference writes it: negative where response_a is better, 0 for no preference.

        A verdict without a stated strength counts as 1.
        """
        size = self.preference_strength or 1
        return {"a": -size, "b": size}.get(self.verdict, 0)

    @property
    def chosen(self) -> list[Message]:
        """The preferred response; a tie has none."""
        if self.verdict not in ("a", "b"):
            raise ValueError(f"pair {self.pair_id} has verdict {self.verdict!r}: no response was chosen")
        return self.response_a if self.verdict == "a" else self.response_b

    @property
    def rejected(self) -> list[Message]:
        if self.verdict not in ("a", "b"):
            raise ValueError(f"pair {self.pair_id} has verdict {self.verdict!r}: no response was rejected")
        return self.response_b if self.verdict == "a" else self.response_a


@dataclass(frozen=True, slots=True)
class LabelledResponse:
    """One response with what is known of it alone: ratings by attribute, labels of its steps, a reference answer."""

    prompt: list[Message]
    response: list[Message]
    ratings: Mapping[str, float] = field(default_factory=dict)
    """Value by attribute, on the attribute's own scale; an attribute that was not rated is absent."""
    steps: Sequence[str] = ()
    """Texts of the steps; joined they are the response, up to white space between them."""
    step_labels: Sequence[float | None] = ()
    """One a step, in [0, 1]: 1 right, 0 wrong; None where a step was not labelled."""
    reference: list[Message] | None = None
    response_id: int | None = None
    example_id: int | None = None
    weight: float = 1.0
    prompt_key: str = ""
    source: str = ""
    rater: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt_key:
            object.__setattr__(self, "prompt_key", prompt_key(self.prompt))


@dataclass(frozen=True, slots=True)
class ResponseItem:
    """One response to be scored."""

    response_id: int
    prompt: list[Message]
    response: list[Message]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What some families read besides: "reference" (messages), "steps" (texts), "context" (a criterion
    as text, or labelled pairs of who asks), "rater", "source"."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Rewards of a batch, in the order the items came in.

    values: float64 (n,); n_tokens: int64 (n,), tokens really read (0 for families without tokens);
    n_truncated: items whose prompt was shortened to fit; n_response_cut: of these, items whose response alone was
    longer than the context, so that its end was cut too.
    """

    values: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    n_truncated: int = 0
    n_response_cut: int = 0
    parts: Sequence[Mapping[str, Any]] | None = None
    """What the family tells besides the reward, a JSON object an item: attributes, spread, tokens, steps."""


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Rewards of pairs with a known verdict, one entry per scored non-tie pair.

    margin = reward_chosen - reward_rejected; all float64 of shape (n,). `prompt_keys` groups pairs of one prompt,
    `meta` is what the pair (or its example) carries, for slices. Pairs that could not enter are counted.
    """

    reward_chosen: NDArray[np.float64]
    reward_rejected: NDArray[np.float64]
    pair_ids: Sequence[str] = ()
    prompt_keys: Sequence[str] = ()
    meta: Sequence[Mapping[str, Any]] = ()
    n_tie: int = 0
    n_unscored: int = 0

    @property
    def margin(self) -> NDArray[np.float64]:
        return self.reward_chosen - self.reward_rejected

    def __len__(self) -> int:
        return len(self.reward_chosen)
