"""The judgements the demo starts with: two people who mostly agree, and what they were told to do."""

import pytest

from workers.data.demo import REASONS, demo_gold, demo_guidelines, demo_judgements, everyday_examples, judge

JUDGEMENTS = list(demo_judgements())
ROWS = list(everyday_examples())


def test_two_annotators_judge_the_same_sixty_pairs() -> None:
    by_rater = {
        rater: [(row["example"], row["response_a"], row["response_b"]) for row in JUDGEMENTS if row["rater"] == rater]
        for rater in ("ann1", "ann2")
    }
    assert len(by_rater["ann1"]) == 60
    assert by_rater["ann1"] == by_rater["ann2"]
    assert len(set(by_rater["ann1"])) == 60


def test_judgements_fit_the_pairwise_form() -> None:
    for row in JUDGEMENTS:
        assert row["verdict"] in ("a", "b", "tie", "both_bad")
        assert (row["preference_strength"] in (1, 2, 3)) == (row["verdict"] in ("a", "b"))
        assert set(row["reasons"]) <= set(REASONS)
        assert 4 <= row["active_s"] < 180
        assert ROWS[row["example"]]["id"] == row["example_id"]
        assert row["response_b"] < len(ROWS[row["example"]]["responses"])


def test_they_agree_mostly_but_not_always() -> None:
    verdicts = {(row["example"], row["rater"]): row["verdict"] for row in JUDGEMENTS}
    same = sum(verdicts[example, "ann1"] == verdicts[example, "ann2"] for example in {e for e, _ in verdicts})
    assert 0.65 <= same / 60 <= 0.92
    assert "tie" in verdicts.values()
    assert "both_bad" in verdicts.values()


def test_some_justify_and_some_do_not() -> None:
    written = [row["justification"] for row in JUDGEMENTS if row["justification"]]
    assert 0.5 < len(written) / len(JUDGEMENTS) < 0.9
    assert len(set(written)) > 25


def test_judgements_are_repeatable_and_follow_the_seed() -> None:
    assert list(demo_judgements()) == JUDGEMENTS
    assert list(demo_judgements(1)) != JUDGEMENTS


def test_quality_decides_most_verdicts() -> None:
    right = total = 0
    for row in ROWS:
        a, b = (row["responses"][place]["score"] for place in (0, 1))
        for rater in ("ann1", "ann2"):
            said = judge(row, response_a=0, response_b=1, rater=rater)
            if abs(a - b) >= 2 and said["verdict"] in ("a", "b"):
                total += 1
                right += (said["verdict"] == "a") == (a > b)
    assert right / total > 0.93


def test_gold_pairs_are_clear_and_not_yet_judged() -> None:
    gold = list(demo_gold())
    judged = {row["example"] for row in JUDGEMENTS}
    assert len(gold) == 12
    for row in gold:
        a, b = (ROWS[row["example"]]["responses"][row[key]]["score"] for key in ("response_a", "response_b"))
        assert row["example"] not in judged
        assert abs(a - b) >= 3
        assert row["verdict"] == ("a" if a > b else "b")


@pytest.mark.parametrize("name", ["everyday", "verifiable"])
def test_guidelines_are_markdown(name: str) -> None:
    text = demo_guidelines(name)
    assert text.startswith("# ")
    assert len(text.split()) > 100


def test_unknown_guidelines_name_the_known_ones() -> None:
    with pytest.raises(ValueError, match="everyday, verifiable"):
        demo_guidelines("nothing")
