"""Cross-entropy of right and wrong responses where a reference answer is read along."""

from typing import ClassVar

from workers.objectives import OBJECTIVES
from workers.objectives.outcome_bce import OutcomeCrossEntropy


@OBJECTIVES.add("verification")
class Verification(OutcomeCrossEntropy):
    """-log sigmoid(r) of a response that agrees with its reference answer, -log sigmoid(-r) of one that does not.

    The same loss on the same logit as outcome_bce, for families that read the reference.
    """

    title: ClassVar[str] = "Verification"
    needs: ClassVar[frozenset[str]] = frozenset({"scalar", "reference"})
