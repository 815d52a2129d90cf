"""Kappa, the vote protocol, Beta bins, goodness and association: by hand, against other packages, and simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.inter_rater import cohens_kappa

from workers.stats.association import midranks, pearson, r_squared, spearman
from workers.stats.beta_bins import beta_bins, beta_cdf, log_attribute_probability
from workers.stats.goodness import goodness, goodness_weights, section_score
from workers.stats.kappa import kappa_of_table, pooled_kappa, weighted_kappa
from workers.stats.votes import (
    Protocol,
    agreement_by_stage,
    best_agreeing,
    half_up,
    label_of,
    label_prompt,
    n_more_votes,
)

# --- kappa


def test_kappa_by_hand() -> None:
    found = weighted_kappa([4, 3, 2, 4, 0, 1, 3, 3], [4, 4, 2, 3, 0, 2, 3, 2])
    assert found.value == pytest.approx(0.846154, abs=1e-6)
    assert str(found) == "0.846154"
    assert found.n_pairs == 8


def test_kappa_as_statsmodels_on_random_tables() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        k = int(rng.integers(2, 7))
        table = rng.integers(0, 30, (k, k)) + np.eye(k, dtype=int)
        expected = cohens_kappa(table, wt="quadratic", return_results=False)
        assert kappa_of_table(table).value == pytest.approx(expected, abs=1e-9)


def test_kappa_without_variation_is_undefined_not_nan() -> None:
    constant = weighted_kappa([2, 2, 2], [2, 2, 2])
    assert constant.value is None
    assert str(constant) == "undefined"
    assert "same level" in constant.reason
    assert "no pair" in pooled_kappa([[3], []]).reason


def test_pooled_kappa_takes_every_ordered_pair() -> None:
    pairs = [
        (a, b) for votes in ([4, 3, 2], [0, 1]) for i, a in enumerate(votes) for j, b in enumerate(votes) if i != j
    ]
    direct = weighted_kappa([a for a, _ in pairs], [b for _, b in pairs])
    assert pooled_kappa([[4, 3, 2], [0, 1], [2]]) == direct
    assert direct.n_pairs == 8


@pytest.mark.parametrize("votes", [[5], [-1], [1.5]])
def test_votes_off_the_scale_are_refused(votes) -> None:
    with pytest.raises(ValueError, match="votes must"):
        weighted_kappa(votes, votes)


# --- the protocol


def helpful(*votes: int) -> list[dict[str, int]]:
    return [{"helpfulness": vote} for vote in votes]


def test_a_spread_above_two_opens_two_more_votes() -> None:
    assert n_more_votes([4, 1, 3]) == 2
    assert n_more_votes([4, 3, 2]) == 0
    assert n_more_votes([4, 1, 3, 4]) == 1
    assert n_more_votes([4, 1, 3, 4, 4]) == 0
    assert [n_more_votes(votes) for votes in ([], [4], [4, 0])] == [3, 2, 1]


def test_the_votes_that_agree_best_are_kept() -> None:
    votes = [4, 1, 3, 4, 4]
    assert [votes[p] for p in best_agreeing(votes)] == [4, 4, 4]
    assert [v for p in best_agreeing([0, 2, 2, 4, 4]) for v in [[0, 2, 2, 4, 4][p]]] == [0, 2, 2]
    assert best_agreeing([3, 1]) == (0, 1)
    assert best_agreeing([2, 2, 2, 2]) == (0, 1, 2)


def test_the_same_raters_are_kept_for_every_attribute_and_halves_round_up() -> None:
    votes = [{"helpfulness": h, "verbosity": v} for h, v in ((4, 0), (1, 4), (3, 4), (4, 1), (4, 2))]
    found = label_of(votes)
    assert found.kept == (0, 3, 4)
    assert found.values == {"helpfulness": 4, "verbosity": 1}
    assert (found.spread, found.n_votes) == (0, 5)
    assert [half_up(v) for v in (2.5, 3.5, 2.4999, 0.0)] == [3, 4, 2, 0]
    assert label_of(helpful(2, 3)).values == {"helpfulness": 3}


def test_a_contested_response_removes_its_prompt() -> None:
    assert label_prompt([helpful(4, 3, 3), helpful(2, 2, 0)]).is_kept
    contested = label_prompt([helpful(4, 3, 3), helpful(4, 0, 1, 4, 0)])
    assert contested.is_kept  # 0, 1, 0 agree
    for order in (0, 1):
        responses = [helpful(4, 3, 3), helpful(3, 0, 3)]
        assert not label_prompt(responses[::-1] if order else responses).is_kept


def test_a_vote_without_the_leading_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match="helpfulness"):
        label_of([{"verbosity": 3}])
    with pytest.raises(ValueError, match="there must be one"):
        label_of([])
    assert label_of([{"overall": 3}], Protocol(lead="overall")).values == {"overall": 3}


def simulate(n_prompts: int, rng: np.random.Generator) -> tuple[list, np.ndarray]:
    """Votes of a crowd of which one in five votes at random; the others see the truth with noise of 0.6."""
    truth = rng.integers(0, 5, (n_prompts, 2))

    def vote(level: int) -> int:
        if rng.random() < 0.2:
            return int(rng.integers(0, 5))
        return int(np.clip(half_up(level + 0.6 * rng.standard_normal()), 0, 4))

    prompts = []
    for levels in truth:
        responses = []
        for level in levels:
            votes: list[int] = []
            while more := n_more_votes(votes):
                votes += [vote(level) for _ in range(more)]
            responses.append(helpful(*votes))
        prompts.append(responses)
    return prompts, truth


@pytest.mark.parametrize("seed", range(5))
def test_the_protocol_cleans_up_after_careless_raters(seed) -> None:
    prompts, truth = simulate(1500, np.random.default_rng(seed))
    stages = agreement_by_stage(prompts)
    assert stages.filtered.value >= stages.first.value + 0.15
    # Of five votes on five levels, three always lie within two: the filter bites where extra votes never came.
    assert stages.first.value < stages.kept.value == stages.filtered.value
    assert 3.0 < stages.votes_per_response < 5.0
    plain = [[np.mean([v["helpfulness"] for v in votes[:3]]) for votes in responses] for responses in prompts]
    error_before = np.abs(np.array([[half_up(v) for v in row] for row in plain]) - truth).mean()
    labels = [label_prompt(responses) for responses in prompts]
    errors = [
        abs(label.values["helpfulness"] - level)
        for found, levels in zip(labels, truth, strict=True)
        if found.is_kept
        for label, level in zip(found.labels, levels, strict=True)
    ]
    assert np.mean(errors) <= 0.85 * error_before


def test_the_filter_removes_prompts_whose_extra_votes_never_came() -> None:
    prompts = [[helpful(4, 3, 3), helpful(0, 4, 4)], [helpful(4, 4, 3), helpful(1, 0, 1)], [helpful(2, 2, 3)] * 2]
    stages = agreement_by_stage(prompts)
    assert stages.kept == stages.first
    assert stages.filtered.value > stages.kept.value
    assert stages.filtered.n_pairs == 24
    assert stages.votes_per_response == 3.0


# --- Beta bins, goodness


def test_bins_at_the_middle_of_the_scale() -> None:
    assert beta_bins(2.0) == pytest.approx([0.0006, 0.1630, 0.6727, 0.1630, 0.0006], abs=1e-4)


def test_bins_sum_to_one_and_their_mode_moves_with_the_rating() -> None:
    ratings = np.linspace(-1, 5, 61)
    bins = [beta_bins(r) for r in ratings]
    assert all(b.sum() == pytest.approx(1.0, abs=1e-12) and (b >= -1e-12).all() for b in bins)
    modes = [int(b.argmax()) for b in bins]
    assert modes == sorted(modes)
    assert (modes[0], modes[-1]) == (0, 4)


def test_beta_as_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b, x = rng.uniform(0.02, 40), rng.uniform(0.02, 40), rng.random()
        assert beta_cdf(x, a, b) == pytest.approx(scipy.stats.beta.cdf(x, a, b), abs=1e-12)
    assert (beta_cdf(0, 2, 3), beta_cdf(1, 2, 3)) == (0.0, 1.0)


def test_attributes_multiply() -> None:
    found = log_attribute_probability({"helpfulness": 4, "verbosity": 2}, {"helpfulness": 4, "verbosity": 2})
    assert found == pytest.approx(math.log(beta_bins(4)[4]) + math.log(beta_bins(2)[2]))
    with pytest.raises(ValueError, match="no rating of coherence"):
        log_attribute_probability({}, {"coherence": 4})


def test_goodness() -> None:
    assert goodness({"helpfulness": 4, "correctness": 4, "coherence": 4}) == pytest.approx(7.6)
    names = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    assert goodness_weights(names) == [0.65, 0.8, 0.45, 0.0, 0.0]
    assert goodness_weights(["style", "safety"]) == [1.0, 0.0]
    assert goodness_weights(["verbosity", "style"]) == [0.0, 1.0]
    assert goodness_weights(names, {"verbosity": -0.5}) == [0, 0, 0, 0, -0.5]
    with pytest.raises(ValueError, match="not better by itself"):
        goodness_weights(["verbosity"])
    with pytest.raises(ValueError, match="not there: safety"):
        goodness_weights(names, {"safety": 1})
    with pytest.raises(ValueError, match="not 0"):
        goodness_weights(names, {"helpfulness": 0})


def test_section_score() -> None:
    sections = (96.9, 76.8, 92.2, 97.3)
    assert section_score(sections) == pytest.approx(90.8, abs=0.05)
    assert section_score(sections, prior=74.3) == pytest.approx(89.0, abs=0.05)
    with pytest.raises(ValueError, match="no section"):
        section_score([])


# --- association


def test_association_as_scipy_with_ties() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, y = rng.integers(0, 6, 40), rng.normal(size=40)
        assert midranks(x) == pytest.approx(scipy.stats.rankdata(x))
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert math.isnan(spearman([1, 1], [1, 2]))
    with pytest.raises(ValueError, match="not finite"):
        pearson([1, math.nan], [1, 2])


def test_r_squared() -> None:
    assert r_squared([1, 2, 3], [1, 2, 3]) == 1
    assert r_squared([1, 2, 3], [2, 2, 2]) == 0
    assert r_squared([1, 2, 3], [3, 2, 1]) == -3
    assert math.isnan(r_squared([2, 2], [1, 2]))
