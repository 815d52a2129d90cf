"""TRL preference data with an explicit prompt, conversational layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workers.data.exporters import EXPORTS
from workers.data.exporters.record import SnapshotRecord
from workers.data.rendering import turns

if TYPE_CHECKING:
    import pyarrow as pa


@EXPORTS.add("trl_conversational")
class TrlConversational:
    """`prompt`, `chosen` and `rejected` as lists of turns, to which a trainer applies its model's chat template.

    Pairs decided as a tie or both bad have no chosen response; they are left out and counted.
    """

    title: ClassVar[str] = "TRL preference, conversations"
    reads_judgements: ClassVar[bool] = False
    columns: ClassVar[dict[str, str]] = {
        "prompt": "the turns before the responses",
        "chosen": "the turns of the preferred response",
        "rejected": "the turns of the other response",
    }

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        turn = pa.struct([("role", pa.string()), ("content", pa.string())])
        return pa.schema([(name, pa.list_(turn)) for name in self.columns])

    def rows(self, record: SnapshotRecord) -> list[dict[str, Any]]:
        if record.chosen is None or record.rejected is None:
            return []
        return [{"prompt": turns(record.prompt), "chosen": turns(record.chosen), "rejected": turns(record.rejected)}]
