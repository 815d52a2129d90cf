"""The paired study of an explicit and an implicit reward: its statistics against others' and by hand."""

import csv
import json

import numpy as np
import pytest
import scipy.stats
from pyarrow import parquet
from statsmodels.stats.contingency_tables import mcnemar

from tests.workers.likelihood_world import make_pair, vowel_pairs
from tests.workers.making import LocalRun
from workers.context import RewardModelRef
from workers.errors import JobError, SpecError
from workers.jobs import JOBS
from workers.jobs.implicit_study import study_json
from workers.specs import parse_spec
from workers.stats.paired_study import StudyPairs, exrm_vs_dporm, study_rows
from workers.stats.rank_correlation import ranks, spearman


def study_pairs(n: int = 300, *, seed: int = 0, kind: str = "out_of_distribution", ties: bool = True) -> StudyPairs:
    rng = np.random.default_rng(seed)
    explicit = rng.normal(loc=[0.8, 0], size=(n, 2))
    implicit = rng.normal(loc=[0.3, 0], size=(n, 2))
    if ties:
        implicit[::10, 1] = implicit[::10, 0]
    return StudyPairs(
        name=f"{kind} {seed}",
        kind=kind,
        pair_ids=[f"p{i}" for i in range(n)],
        prompts=[f"q{i // 2}" for i in range(n)],
        explicit=explicit,
        implicit=implicit,
        lengths=rng.integers(5, 50, size=(n, 2)).astype(float),
    )


def swapped(pairs: StudyPairs) -> StudyPairs:
    arrays = {name: getattr(pairs, name)[:, ::-1] for name in ("explicit", "implicit", "lengths")}
    return StudyPairs(pairs.name, pairs.kind, pairs.pair_ids, pairs.prompts, **arrays)


def outcome(pairs: StudyPairs, **options):
    return exrm_vs_dporm([pairs], rng=np.random.default_rng(0), **{"n_rounds": 400, **options}).settings[0]


def test_by_hand() -> None:
    pairs = StudyPairs(
        "hand",
        "in_distribution",
        ["1", "2", "3", "4"],
        ["a", "b", "c", "d"],
        explicit=np.array([[1, 0], [2, 1], [3, 1], [0, 1]], dtype=float),
        implicit=np.array([[1, 0], [1, 1], [0, 3], [2, 1]], dtype=float),
        lengths=np.array([[10, 10], [20, 19], [5, 50], [7, 9]], dtype=float),
    )
    found = outcome(pairs)
    assert (found.explicit.accuracy.accuracy, found.implicit.accuracy.accuracy) == (0.75, 0.5)
    assert (found.explicit.tie_rate, found.implicit.tie_rate) == (0.0, 0.25)
    assert found.gap == 0.25
    assert (found.mcnemar.n_a_only, found.mcnemar.n_b_only) == (2, 1)
    assert found.mcnemar.p_value == pytest.approx(1.0)
    assert (found.explicit.length_matched.n, found.implicit.length_matched.accuracy) == (2, 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_and_bootstrap_are_those_of_others(seed) -> None:
    pairs = study_pairs(seed=seed)
    found = outcome(pairs, n_rounds=4000)
    right = [rewards[:, 0] > rewards[:, 1] for rewards in (pairs.explicit, pairs.implicit)]
    table = [[(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum()],
             [(~right[0] & right[1]).sum(), (~right[0] & ~right[1]).sum()]]  # fmt: skip
    assert found.mcnemar.p_value == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    by_prompt = (right[0].astype(float) - right[1]).reshape(-1, 2).mean(axis=1)
    theirs = scipy.stats.bootstrap(
        (by_prompt,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.gap_interval.low == pytest.approx(theirs.low, abs=0.01)
    assert found.gap_interval.high == pytest.approx(theirs.high, abs=0.01)


def test_exchanging_chosen_and_rejected_is_exact() -> None:
    pairs = study_pairs()
    for mine, other in zip(
        (outcome(pairs).explicit, outcome(pairs).implicit),
        (outcome(swapped(pairs)).explicit, outcome(swapped(pairs)).implicit),
        strict=True,
    ):
        assert other.accuracy.n_correct + mine.accuracy.n_correct + mine.accuracy.n_zero == mine.accuracy.n
        assert other.tie_rate == mine.tie_rate
    assert outcome(pairs).implicit.tie_rate == pytest.approx(0.1)


def test_a_constant_per_prompt_and_beta_change_no_decision() -> None:
    pairs = study_pairs(ties=False)
    rng = np.random.default_rng(5)
    moved = pairs.implicit + rng.normal(size=150).repeat(2)[:, None] * 100
    for changed in (moved, pairs.implicit * 0.01, pairs.implicit * 10):
        other = StudyPairs(
            pairs.name, pairs.kind, pairs.pair_ids, pairs.prompts, pairs.explicit, changed, pairs.lengths
        )
        assert outcome(other).implicit.accuracy.n_correct == outcome(pairs).implicit.accuracy.n_correct


def test_a_policy_that_is_its_reference_ties_everywhere() -> None:
    pairs = study_pairs()
    zero = StudyPairs(
        pairs.name, pairs.kind, pairs.pair_ids, pairs.prompts, pairs.explicit, 0 * pairs.implicit, pairs.lengths
    )
    found = outcome(zero).implicit
    assert (found.tie_rate, found.accuracy.accuracy) == (1.0, 0.0)


def test_mean_and_largest_gap_are_over_the_settings_out_of_distribution() -> None:
    settings = [study_pairs(seed=1), study_pairs(seed=2), study_pairs(seed=3, kind="train")]
    found = exrm_vs_dporm(settings, rng=np.random.default_rng(0), n_rounds=200)
    gaps = [s.gap for s in found.settings[:2]]
    assert (found.mean_gap, found.max_gap) == (pytest.approx(np.mean(gaps)), max(gaps))
    near = exrm_vs_dporm(settings[2:], rng=np.random.default_rng(0), n_rounds=200)
    assert study_json(near)["mean_gap"] is None


def test_rewards_that_are_no_numbers_name_their_pair() -> None:
    pairs = study_pairs(10)
    pairs.implicit[7, 1] = np.nan
    with pytest.raises(ValueError, match="pair p7"):
        StudyPairs("x", "train", pairs.pair_ids, pairs.prompts, pairs.explicit, pairs.implicit, pairs.lengths)
    with pytest.raises(ValueError, match="shape"):
        StudyPairs("x", "train", pairs.pair_ids[1:], pairs.prompts, pairs.explicit, pairs.implicit, pairs.lengths)


def test_the_table_gives_the_figures_again() -> None:
    pairs = study_pairs(50)
    rows = list(study_rows([pairs]))
    assert list(rows[0]) == ["pair_id", "setting", "r_ex_w", "r_ex_l", "r_dpo_w", "r_dpo_l", "len_w", "len_l"]
    again = np.mean([row["r_ex_w"] > row["r_ex_l"] for row in rows])
    assert again == outcome(pairs).explicit.accuracy.accuracy


def test_rank_correlation_against_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 200):
        x, y = rng.integers(0, 6, n), rng.normal(size=n)
        assert ranks(x) == pytest.approx(scipy.stats.rankdata(x))
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert np.isnan(spearman([1, 1], [1, 2]))
    with pytest.raises(ValueError, match="one length"):
        spearman([1, 2], [1, 2, 3])


# The job


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An explicit and an implicit checkpoint of the same pairs, on tiny backbones, and their context."""
    local = LocalRun(tmp_path_factory.mktemp("study"), vowel_pairs(40))
    uids = []
    for family, backbone in (("scalar_head", "tiny-encoder"), ("implicit", "tiny-causal")):
        local.family, local.model = family, {"backbone": backbone, "max_length": 64}
        uids.append(local.train(local.context(family), max_steps=6)["checkpoint"])
    ctx = local.context("study")
    long = make_pair(900, ("a" * 100, "bcd"), is_first_better=True)
    twin = make_pair(901, ("same", "same"), is_first_better=True)
    ctx.pairs = {"train": local.pairs, "far": [*vowel_pairs(30, seed=9), long, twin], "ties": []}
    for pair in ctx.pairs["far"]:
        object.__setattr__(pair, "response_a_id", pair.response_a_id + 5000)
        object.__setattr__(pair, "response_b_id", pair.response_b_id + 5000)
    ctx.reward_models = {"model": RewardModelRef("model", local.family, local.model)}
    return ctx, uids


def study(ctx, uids, *names: str, **spec):
    job = JOBS.get("implicit_study")
    kinds = {"train": "train", "far": "out_of_distribution", "ties": "in_distribution"}
    settings = [{"name": name, "kind": kinds[name], "source": {"dataset": name}} for name in names]
    told = {"checkpoint": uids[0], "implicit": uids[1], "settings": settings, "n_rounds": 200, **spec}
    return job().run(ctx, parse_spec(job.Spec, told))


def test_the_job_end_to_end(trained) -> None:
    ctx, uids = trained
    found = study(ctx, uids, "train", "far")
    assert [(s["name"], s["n"], s["n_left_out"]) for s in found["settings"]] == [("train", 40, 0), ("far", 30, 2)]
    assert any("same response twice" in line for _, line in ctx.logs)
    assert found["mean_gap"] == found["settings"][1]["gap"]
    paths = [next((ctx.work_dir / "artifacts").glob(uid)) for uid in found["tables"]]
    rows = list(csv.DictReader(paths[0].open()))
    table = parquet.read_table(paths[1]).to_pylist()
    assert len(rows) == len(table) == 70
    assert float(rows[5]["r_dpo_w"]) == table[5]["r_dpo_w"]
    right = np.mean([row["r_dpo_w"] > row["r_dpo_l"] for row in table if row["setting"] == "far"])
    assert right == found["settings"][1]["implicit"]["accuracy"]["accuracy"]
    json.dumps(found, allow_nan=False)
    assert found == {**study(ctx, uids, "train", "far"), "tables": found["tables"]}


def test_what_the_job_refuses(trained) -> None:
    ctx, uids = trained
    with pytest.raises(JobError, match="ties has no pair") as caught:
        study(ctx, uids, "ties")
    assert caught.value.hint
    with pytest.raises(SpecError, match="same name"):
        study(ctx, uids, "train", "train")
    with pytest.raises(SpecError, match="two different"):
        study(ctx, [uids[0], uids[0]], "train")
    with pytest.raises(SpecError):
        study(ctx, uids)
