"""Every judgement, with the order it was made in and what it was made under."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from workers.data.exporters import EXPORTS
from workers.data.exporters.record import SnapshotRecord
from workers.data.rendering import turns

if TYPE_CHECKING:
    import pyarrow as pa

NOT_MEASURED_S = -1.0


@EXPORTS.add("raw")
class RawJudgements:
    """One row a judgement: the pair as stored, who judged it, how it was shown, what was answered, what was decided.

    Nothing is left out. `preference_strength` is 0 where it was not asked and `active_s` is -1 where it was not
    measured, because a column with nulls does not load reliably from JSON Lines. `reasons` and `meta` are JSON texts.
    """

    title: ClassVar[str] = "Every judgement"
    reads_judgements: ClassVar[bool] = True
    columns: ClassVar[dict[str, str]] = {
        "example_uid": "the example, as the API names it",
        "prompt": "the turns before the responses",
        "response_a": "the turns of the response stored first",
        "response_b": "the turns of the response stored second",
        "source_model_a": "who wrote response_a, where known",
        "source_model_b": "who wrote response_b, where known",
        "rater": "pseudonym of the rater",
        "verdict": "what the rater said: a, b, tie, both_bad, or why not",
        "preference_strength": "1 slightly, 2 clearly, 3 much better; 0 not asked",
        "left": "which response stood on the left: a or b",
        "justification": "the rater's reason in words",
        "reasons": "reason chips, a JSON list",
        "active_s": "seconds the rater was active; -1 not measured",
        "form_version": "version of the form that was answered",
        "guidelines_version": "version of the guidelines shown; 0 none",
        "submitted_at": "when, in seconds since 1970-01-01 UTC; -1 not recorded",
        "decided_verdict": "the snapshot's verdict for the pair; empty where undecided",
        "decided_strength": "its preference_strength; 0 none",
        "n_judgements": "judgements counted in the decision",
        "share_a": "share of them for a",
        "share_b": "share of them for b",
        "share_tie": "share of them for a tie",
        "share_both_bad": "share of them for both bad",
        "meta": "metadata of the example, a JSON object",
    }

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        turn = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        special = {
            "prompt": turn,
            "response_a": turn,
            "response_b": turn,
            "active_s": pa.float64(),
            "submitted_at": pa.float64(),
        }
        numbers = ("preference_strength", "form_version", "guidelines_version", "decided_strength", "n_judgements")
        special |= {name: pa.int64() for name in numbers}
        special |= {name: pa.float64() for name in self.columns if name.startswith("share_")}
        return pa.schema([(name, special.get(name, pa.string())) for name in self.columns])

    def rows(self, record: SnapshotRecord) -> list[dict[str, Any]]:
        start = {
            "example_uid": record.example_uid,
            "prompt": turns(record.prompt),
            "response_a": turns(record.response_a),
            "response_b": turns(record.response_b),
            "source_model_a": record.source_model_a,
            "source_model_b": record.source_model_b,
        }
        end = {
            "decided_verdict": record.verdict or "",
            "decided_strength": record.preference_strength or 0,
            "n_judgements": record.n_judgements,
            "share_a": float(record.share_a),
            "share_b": float(record.share_b),
            "share_tie": float(record.share_tie),
            "share_both_bad": float(record.share_both_bad),
            "meta": _json(dict(record.meta)),
        }
        return [start | _judgement(judgement) | end for judgement in record.judgements]


def _judgement(judgement: Mapping[str, Any]) -> dict[str, Any]:
    seconds = judgement.get("active_s")
    return {
        "rater": str(judgement.get("rater") or ""),
        "verdict": str(judgement.get("verdict") or ""),
        "preference_strength": int(judgement.get("preference_strength") or 0),
        "left": str(judgement.get("left") or ""),
        "justification": str(judgement.get("justification") or ""),
        "reasons": _reasons(judgement.get("reasons") or []),
        "active_s": NOT_MEASURED_S if seconds is None else float(seconds),
        "form_version": int(judgement.get("form_version") or 0),
        "guidelines_version": int(judgement.get("guidelines_version") or 0),
        "submitted_at": _seconds(judgement.get("submitted_at")),
    }


def _seconds(when: Any) -> float:
    """A number, because JSON readers turn a column of ISO dates into dates, and Parquet readers do not."""
    if when is None:
        return NOT_MEASURED_S
    return (when if isinstance(when, datetime) else datetime.fromisoformat(str(when))).timestamp()


def _reasons(chips: Sequence[Any]) -> str:
    return _texts_json(tuple(chips)) if all(type(chip) is str for chip in chips) else _json(list(chips))


@lru_cache(maxsize=1000)
def _texts_json(texts: tuple[str, ...]) -> str:
    """A form has a few chips, so the same choices of them come again and again."""
    return _json(list(texts))


_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode  # json.dumps makes an encoder a call


def _json(value: Any) -> str:
    return _encode(value) if value else str(value)  # "{}" and "[]" are by far the most frequent
