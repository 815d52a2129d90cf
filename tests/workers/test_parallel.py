"""Scoring with several processes."""

import subprocess

import numpy as np
import pytest

from workers.errors import JobCancelled, JobError
from workers.jobs.score import open_scorer, usual_processes
from workers.parallel import parallel_scorer


@pytest.fixture
def trained(local):
    return local.checkpoints[local.train(max_steps=2)["checkpoint"]]


def test_processes_give_the_rewards_of_one_and_end(local, trained) -> None:
    items = [(pair.prompt, response) for pair in local.pairs for response in (pair.response_a, pair.response_b)]
    told: list[int] = []
    with open_scorer(trained, 1) as scorer:
        expected = scorer.score(items)
    with parallel_scorer(trained, 2) as scorer:
        found = scorer.score(items, on_batch=told.append)
        again = scorer.score(items[:5])
        children = scorer.children
    assert np.abs(found.values - expected.values).max() < 1e-5
    assert np.array_equal(found.n_tokens, expected.n_tokens)
    assert (found.n_truncated, found.n_response_cut) == (expected.n_truncated, expected.n_response_cut)
    assert sum(told) == len(items)
    assert np.abs(again.values - expected.values[:5]).max() < 1e-5
    assert all(child.poll() is not None for child in children)


def test_a_cancel_ends_the_children(local, trained) -> None:
    def stop(_: int) -> None:
        raise JobCancelled

    items = [(pair.prompt, pair.response_a) for pair in local.pairs]
    with parallel_scorer(trained, 2) as scorer:
        children = scorer.children
        with pytest.raises(JobCancelled):
            scorer.score(items, on_batch=stop)
    assert all(isinstance(child, subprocess.Popen) and child.poll() is not None for child in children)


def test_what_goes_wrong_in_a_child_is_told(local, trained, tmp_path) -> None:
    broken = type(trained)(trained.uid, trained.family, trained.config, tmp_path)
    items = [(pair.prompt, pair.response_a) for pair in local.pairs]
    with pytest.raises(JobError, match="is not a checkpoint"), parallel_scorer(broken, 1) as scorer:
        scorer.score(items)
    with parallel_scorer(trained, 1) as scorer:
        scorer.children[0].kill()
        with pytest.raises(JobError, match="ended without an answer"):
            scorer.score(items)


def test_small_inputs_and_rules_take_one_process(trained) -> None:
    assert usual_processes(trained, 100) == 1
    assert usual_processes(type(trained)("u", "length", {}, None), 10**6) == 1
