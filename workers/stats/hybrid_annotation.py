"""Two labellers of right and wrong, a rule and a judge: rows on which they agree are kept, the others go to people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class HybridLabel:
    """What rule, judge and person say of one response; labels are 1 right, 0 wrong, None unknown."""

    rule_label: int | None
    rule_status: Literal["parsed", "unparsed"]
    judge_label: int | None
    judge_raw: str = ""
    human_label: int | None = None

    @property
    def agreed(self) -> bool:
        """A rule that could not read the answer agrees with nobody: its failure is no evidence of a wrong answer."""
        return self.rule_status == "parsed" and self.rule_label is not None and self.rule_label == self.judge_label

    @property
    def label(self) -> int | None:
        """The label to train with: the person's where there is one, else the agreed one, else none."""
        if self.human_label is not None:
            return self.human_label
        return self.rule_label if self.agreed else None

    @property
    def needs_person(self) -> bool:
        return self.label is None


def hybrid_label(rule_label: int | None, judge_label: int | None, judge_raw: str = "") -> HybridLabel:
    """rule_label None: the rule found no answer to compare. judge_label None: the judge said nothing usable.

    Raises
    ------
    ValueError
        A label other than 0, 1 or None.
    """
    for name, label in (("rule_label", rule_label), ("judge_label", judge_label)):
        if label not in (None, 0, 1):
            raise ValueError(f"{name} is {label!r}; use 1 right, 0 wrong or None")
    return HybridLabel(rule_label, "unparsed" if rule_label is None else "parsed", judge_label, judge_raw)


def with_human_label(row: HybridLabel, human_label: int) -> HybridLabel:
    """Merge a person's answer back; what rule and judge said stays beside it."""
    if human_label not in (0, 1):
        raise ValueError(f"human_label is {human_label!r}; use 1 right or 0 wrong")
    return replace(row, human_label=human_label)


@dataclass(frozen=True, slots=True)
class AgreementForm:
    """Accuracies and shares in [0, 1]."""

    rule_accuracy: float
    judge_accuracy: float
    kept_share: float
    kept_accuracy: float


def agreement_closed_form(
    *, base_rate: float, rule_precision: float, rule_recall: float, judge_accuracy: float
) -> AgreementForm:
    """What keeping the agreed rows gives when rule and judge err independently given the truth.

    Parameters
    ----------
    base_rate
        Share of right responses, in (0, 1).
    rule_precision, rule_recall
        Of the rule's "right", in (0, 1] and [0, 1]. They must be possible at this base rate.
    judge_accuracy
        The same on right and on wrong responses, in [0, 1].

    Returns
    -------
    AgreementForm
        kept_share = P(agree) = P(both right) + P(both wrong); kept_accuracy = P(both right) / P(agree).

    Raises
    ------
    ValueError
        Precision and recall would need the rule to pass more wrong responses than there are.
    """
    if not 0 < base_rate < 1 or not 0 < rule_precision <= 1:
        raise ValueError("base_rate must lie in (0, 1), rule_precision in (0, 1]")
    false_pass = base_rate * rule_recall * (1 - rule_precision) / rule_precision
    if false_pass > 1 - base_rate:
        raise ValueError("no rule has this precision and recall at this base rate")
    rule_accuracy = base_rate * rule_recall + (1 - base_rate) - false_pass
    both_right = rule_accuracy * judge_accuracy
    both_wrong = (1 - rule_accuracy) * (1 - judge_accuracy)
    kept = both_right + both_wrong
    return AgreementForm(rule_accuracy, judge_accuracy, kept, both_right / kept if kept else float("nan"))
