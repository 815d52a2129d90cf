"""TRL unpaired preference data: one response a row, good or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workers.data.exporters import EXPORTS
from workers.data.exporters.record import SnapshotRecord
from workers.data.rendering import prompt_text, response_text

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = {"a": (True, False), "b": (False, True), "both_bad": (False, False)}


@EXPORTS.add("trl_unpaired")
class TrlUnpaired:
    """`prompt`, `completion` and a true or false `label`, for KTOTrainer.

    The chosen response is true, the rejected one false; both bad gives two false rows. A tie does not say whether both
    are good, so it gives none and is counted.
    """

    title: ClassVar[str] = "TRL unpaired"
    reads_judgements: ClassVar[bool] = False
    columns: ClassVar[dict[str, str]] = {
        "prompt": "what was asked",
        "completion": "one response",
        "label": "true where it was preferred, false where it was rejected or both were bad",
    }

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([("prompt", pa.string()), ("completion", pa.string()), ("label", pa.bool_())])

    def rows(self, record: SnapshotRecord) -> list[dict[str, Any]]:
        labels = LABELS.get(record.verdict or "", ())
        responses = (record.response_a, record.response_b)
        prompt = prompt_text(record.prompt)
        return [
            {"prompt": prompt, "completion": response_text(response), "label": label}
            for response, label in zip(responses, labels, strict=False)
        ]
