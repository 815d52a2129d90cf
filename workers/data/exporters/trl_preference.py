"""TRL preference data with an explicit prompt, standard layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workers.data.exporters import EXPORTS
from workers.data.exporters.record import SnapshotRecord
from workers.data.rendering import prompt_text, response_text

if TYPE_CHECKING:
    import pyarrow as pa


@EXPORTS.add("trl_preference")
class TrlPreference:
    """`prompt`, `chosen` and `rejected` as texts, for RewardTrainer, DPOTrainer and their kin.

    A conversation of several turns is written as a transcript with Human: and Assistant: turns. Pairs decided as a tie
    or both bad have no chosen response; they are left out and counted.
    """

    title: ClassVar[str] = "TRL preference, texts"
    reads_judgements: ClassVar[bool] = False
    columns: ClassVar[dict[str, str]] = {
        "prompt": "what was asked",
        "chosen": "the preferred response",
        "rejected": "the other response",
    }

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(name, pa.string()) for name in self.columns])

    def rows(self, record: SnapshotRecord) -> list[dict[str, Any]]:
        if record.chosen is None or record.rejected is None:
            return []
        return [
            {
                "prompt": prompt_text(record.prompt),
                "chosen": response_text(record.chosen),
                "rejected": response_text(record.rejected),
            }
        ]
