"""The frozen record every export starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.data.schema import Message


@dataclass(slots=True)
class SnapshotRecord:
    """One pair of a snapshot: what was compared, what was decided, and every judgement behind it.

    Shares are fractions of the n_judgements, in [0, 1]. `verdict` is a, b, tie, both_bad or, where nobody could judge,
    None. A judgement is a mapping with: rater (pseudonym), verdict, preference_strength, left ("a" or "b": which
    response stood left), justification, reasons, active_s, form_version, guidelines_version, submitted_at (datetime or
    ISO 8601 with its offset).
    """

    example_uid: str
    prompt: Sequence[Message]
    response_a: Sequence[Message]
    response_b: Sequence[Message]
    verdict: str | None
    source_model_a: str = ""
    source_model_b: str = ""
    preference_strength: int | None = None
    n_judgements: int = 0
    share_a: float = 0.0
    share_b: float = 0.0
    share_tie: float = 0.0
    share_both_bad: float = 0.0
    judgements: Sequence[Mapping[str, Any]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Sequence[Message] | None:
        """The preferred response; None for a tie, both_bad or no verdict."""
        return {"a": self.response_a, "b": self.response_b}.get(self.verdict or "")

    @property
    def rejected(self) -> Sequence[Message] | None:
        return {"a": self.response_b, "b": self.response_a}.get(self.verdict or "")
