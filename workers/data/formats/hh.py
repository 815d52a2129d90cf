"""HH-RLHF: two whole transcripts that share their start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workers.data.columns import share_fitting, take_id
from workers.data.examples import ParsedExample, ParsedPreference, ParsedResponse, RowProblem, refuse_identical
from workers.data.formats import FORMATS
from workers.data.rows import Row
from workers.data.transcripts import is_transcript, split_shared, transcript_messages


@FORMATS.add("hh")
class HumanAssistantTranscripts:
    """Transcripts with `Human:` and `Assistant:` turns in the columns `chosen` and `rejected`.

    The prompt is what both transcripts share, up to the turn where they part; what follows is the response, several
    turns where there are several. A turn that is a single space is kept as a single space.

    {"chosen": "\\n\\nHuman: Can ducks fly?\\n\\nAssistant: Most can.",
     "rejected": "\\n\\nHuman: Can ducks fly?\\n\\nAssistant: No."}
    """

    title: ClassVar[str] = "HH transcripts"
    columns: ClassVar[str] = "chosen and rejected, texts with Human: and Assistant: turns"
    example: ClassVar[dict[str, Any]] = {
        "chosen": "\n\nHuman: Can ducks fly?\n\nAssistant: Most can.",
        "rejected": "\n\nHuman: Can ducks fly?\n\nAssistant: No.",
    }

    def matches(self, rows: Sequence[Mapping[str, Any]]) -> float:
        return share_fitting(
            rows, (is_transcript(row.get("chosen")) and is_transcript(row.get("rejected")) for row in rows)
        )

    def parse(self, row: Row) -> ParsedExample:
        meta = dict(row.data)
        texts = [meta.pop("chosen", None), meta.pop("rejected", None)]
        for name, text in zip(("chosen", "rejected"), texts, strict=True):
            if not is_transcript(text):
                raise RowProblem("not_a_transcript", f"{name} is not a text with Human: and Assistant: turns")
        prompt, responses = split_shared([transcript_messages(text) for text in texts])
        for name, turns in zip(("chosen", "rejected"), responses, strict=True):
            if not any(turn["content"] for turn in turns):
                raise RowProblem("empty_response", f"the last turns of {name} are empty; leave the row out")
        example = ParsedExample(
            prompt,
            [ParsedResponse(turns) for turns in responses],
            [ParsedPreference(0, 1, "a")],
            meta,
            take_id(meta),
            row.line,
        )
        refuse_identical(example)
        return example
