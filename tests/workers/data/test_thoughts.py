"""Labels of thoughts from the solution itself (He et al. 2025, checks 3 and 4), against planted truth."""

import numpy as np
import pytest

from tests.workers.thought_world import corrected_trace, with_symbols, wrong_trace
from workers.data.thoughts import label_right_solution, label_wrong_solution, split_thinking, token_overlap


def labelled(traces, steps_of):
    """F1 of the reflections and accuracy of the step labels."""
    hit = found = planted = right = n = 0
    for trace in traces:
        told = label_right_solution(steps_of(trace))
        hit += len(set(told.reflections) & set(trace.reflections))
        found, planted = found + len(told.reflections), planted + len(trace.reflections)
        right += sum((label == "correct") == truth for label, truth in zip(told.labels, trace.is_right, strict=True))
        n += len(trace.steps)
    return 2 * hit / (found + planted), right / n


def test_reflections_and_labels_of_right_solutions_without_any_arithmetic() -> None:
    rng = np.random.default_rng(0)
    traces = [corrected_trace(rng) for _ in range(500)]
    assert sum(not all(trace.is_right) for trace in traces) > 250
    f1, accuracy = labelled(traces, lambda trace: trace.steps)
    symbol_f1, symbol_accuracy = labelled(traces, lambda trace: with_symbols(trace.steps))
    baseline = np.mean([right for trace in traces for right in trace.is_right])
    print(f"reflection F1 {f1:.3f}, step accuracy {accuracy:.3f} (all correct: {baseline:.3f})")
    print(f"with symbols {symbol_f1:.3f}, {symbol_accuracy:.3f}")
    assert f1 >= 0.9
    assert accuracy >= 0.85
    assert accuracy > baseline
    assert accuracy - symbol_accuracy <= 0.05


def test_labels_of_wrong_solutions_by_overlap_with_the_answer() -> None:
    rng = np.random.default_rng(1)
    traces = [wrong_trace(rng) for _ in range(300)]
    told = [label == "matching" for t in traces for label in label_wrong_solution(t.steps, t.answer).labels]
    truth = [matches for trace in traces for matches in trace.is_right]
    accuracy = np.mean(np.array(told) == np.array(truth))
    print(f"matching accuracy {accuracy:.3f} (all matching: {np.mean(truth):.3f})")
    assert accuracy >= 0.8
    assert accuracy > np.mean(truth)


def test_a_correction_by_hand() -> None:
    steps = ["3 coins and 8 coins", "8 + 8 = 17", "17 + 3 = 20", "Wait, 8 + 8 is 16, not 17", "16 + 3 = 19"]
    told = label_right_solution(steps)
    assert told.reflections == [3]
    assert told.labels == ["correct", "incorrect", "incorrect", "correct", "correct"]
    assert label_right_solution(["a b = c", "Wait for it."]).reflections == []
    assert label_right_solution([]).labels == []


def test_a_solution_that_was_cut_off_matches_nothing() -> None:
    assert label_wrong_solution(["8 + 8 = 16", "so 16"], "").labels == ["mismatched", "mismatched"]
    given = label_wrong_solution(["alpha", "beta"], "x", similarity=lambda step, answer: float(step == "beta"))
    assert given.labels == ["mismatched", "matching"]


def test_thinking_is_cut_at_blank_lines_and_covered_whole() -> None:
    text = "first\nstill first\n\n \n second \n\nthird\n"
    found = split_thinking(text)
    assert [step.text for step in found] == ["first\nstill first", "second", "third"]
    assert all(text[step.start : step.end] == step.text for step in found)
    covered = "".join(text[step.start : step.end] for step in found)
    assert "".join(text.split()) == "".join(covered.split())


def test_overlap_is_a_share_of_the_steps_own_words() -> None:
    assert token_overlap("8 and 9", "the 8 ducks") == pytest.approx(0.5)
    assert token_overlap("so it is", "so it is") == 0.0
