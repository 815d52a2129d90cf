"""Rule and judge together: which rows are kept, and how right they are (Hong et al. 2025, check 2)."""

import numpy as np
import pytest

from workers.stats.hybrid_annotation import agreement_closed_form, hybrid_label, with_human_label


def simulated(n: int, rng: np.random.Generator, *, base_rate: float, precision: float, recall: float, judge: float):
    """Truth, rule and judge labels, rule and judge independent given the truth."""
    truth = rng.random(n) < base_rate
    false_pass = base_rate * recall * (1 - precision) / precision / (1 - base_rate)
    rule = np.where(truth, rng.random(n) < recall, rng.random(n) < false_pass)
    said = np.where(rng.random(n) < judge, truth, ~truth)
    return truth, rule, said


@pytest.mark.parametrize("base_rate", [0.3, 0.5, 0.7])
def test_the_closed_form_is_what_a_simulation_gives(base_rate: float) -> None:
    truth, rule, said = simulated(
        200_000, np.random.default_rng(0), base_rate=base_rate, precision=0.99, recall=0.70, judge=0.85
    )
    form = agreement_closed_form(base_rate=base_rate, rule_precision=0.99, rule_recall=0.70, judge_accuracy=0.85)
    rows = [hybrid_label(int(r), int(j)) for r, j in zip(rule[:20_000], said[:20_000], strict=True)]
    kept = np.array([row.agreed for row in rows])
    assert (kept == (rule == said)[:20_000]).all()
    agree = rule == said
    accuracy = (rule == truth)[agree].mean()
    assert (rule[rule & truth].sum() / rule.sum(), rule[truth].mean()) == pytest.approx((0.99, 0.70), abs=0.01)
    assert accuracy == pytest.approx(form.kept_accuracy, abs=0.01)
    assert agree.mean() == pytest.approx(form.kept_share, abs=0.01)
    assert form.kept_accuracy > max(form.rule_accuracy, form.judge_accuracy)
    assert accuracy > max((rule == truth).mean(), (said == truth).mean())


def test_by_hand() -> None:
    form = agreement_closed_form(base_rate=0.5, rule_precision=1.0, rule_recall=0.5, judge_accuracy=0.8)
    assert form.rule_accuracy == pytest.approx(0.75)
    assert form.kept_share == pytest.approx(0.75 * 0.8 + 0.25 * 0.2)
    assert form.kept_accuracy == pytest.approx(0.6 / 0.65)
    with pytest.raises(ValueError, match="no rule has this precision"):
        agreement_closed_form(base_rate=0.9, rule_precision=0.5, rule_recall=1.0, judge_accuracy=0.9)
    with pytest.raises(ValueError, match="base_rate"):
        agreement_closed_form(base_rate=1.0, rule_precision=0.5, rule_recall=1.0, judge_accuracy=0.9)


def test_what_they_disagree_on_goes_to_people_and_comes_back() -> None:
    agreed, differ, unread = hybrid_label(1, 1, "yes"), hybrid_label(0, 1), hybrid_label(None, 0)
    assert (agreed.label, agreed.needs_person, agreed.rule_status, agreed.judge_raw) == (1, False, "parsed", "yes")
    assert (differ.label, differ.needs_person) == (None, True)
    assert (unread.label, unread.needs_person, unread.rule_status) == (None, True, "unparsed")
    merged = with_human_label(differ, 1)
    assert (merged.label, merged.needs_person, merged.rule_label, merged.judge_label) == (1, False, 0, 1)
    for bad in (2, -1):
        with pytest.raises(ValueError, match="use 1 right"):
            hybrid_label(bad, 0)
        with pytest.raises(ValueError, match="use 1 right"):
            with_human_label(differ, bad)


def test_a_rule_without_an_answer_never_agrees_not_even_with_a_judge_without_one() -> None:
    assert not hybrid_label(None, None).agreed
