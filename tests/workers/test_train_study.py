"""Several trainings as one question."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from tests.workers.making import LocalRun, make_pairs
from workers.data.split import keep_share
from workers.errors import JobCancelled, SpecError
from workers.jobs import JOBS
from workers.jobs.train_study import arm_spec, arms_of
from workers.specs import parse_spec
from workers.stats.student import mean_interval, paired_difference, t_cdf, t_quantile
from workers.stats.study import study_summary

QUICK = {"learning_rate": 2e-3, "epochs": 1, "batch_pairs": 8, "validation_share": 0.3, "token_budget": 512}


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 30, 101])
def test_students_t_is_that_of_scipy(df) -> None:
    for t in (0.0, 0.3, 1.7, 6.0):
        assert t_cdf(t, df) == pytest.approx(scipy.stats.t.cdf(t, df), abs=1e-12)
    for p in (0.6, 0.975, 0.9995):
        assert t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-8)


def test_a_mean_of_few_numbers() -> None:
    values = [0.61, 0.64, 0.58, 0.66]
    found = mean_interval(values)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 4)
    assert math.isnan(mean_interval([0.5]).low)
    with pytest.raises(ValueError, match="finite"):
        mean_interval([])
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, math.nan])


def test_pairing_by_seed_removes_what_the_seed_does_to_both() -> None:
    seeds = np.random.default_rng(0).normal(scale=0.1, size=8)
    better = paired_difference((seeds + 0.02).tolist(), seeds.tolist())
    assert better.excludes_zero
    assert better.value == pytest.approx(0.02)
    assert not paired_difference((seeds + 0.02).tolist(), seeds[::-1].tolist()).excludes_zero


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = sum(m.low <= 0 <= m.high for m in (mean_interval(rng.normal(size=4).tolist()) for _ in range(2000)))
    assert 0.935 <= hits / 2000 <= 0.965


def rows_of(**arms):
    return [{"arm": a, "seed": i, "value": v} for a, values in arms.items() for i, v in enumerate(values)]


def test_the_answer_may_be_that_there_is_none() -> None:
    rows = rows_of(one=[0.6, 0.7, 0.65], two=[0.61, 0.69, 0.66], three=[0.3, 0.41, 0.35])
    found = study_summary(rows, ["one", "two", "three"])
    assert found["differences"]["two"]["answer"] == "no difference shown"
    assert found["differences"]["three"]["answer"] == "worse"
    assert "no difference from one is shown over 3 seeds" in found["answer"]
    assert study_summary(rows_of(one=[0.6], two=[0.7]), ["one", "two"])["differences"]["two"]["answer"].startswith(
        "one seed"
    )
    better = study_summary(rows_of(one=[0.5, 0.51, 0.5], two=[0.7, 0.72, 0.71]), ["one", "two"])
    assert better["answer"].startswith("two beats one by 0.207 [")
    json.dumps(better)


def test_smaller_shares_lie_within_larger_ones() -> None:
    keys = [f"prompt {i // 3}" for i in range(300)]
    rows = np.arange(300)
    kept = [set(keep_share(keys, rows, share=s, seed=3).tolist()) for s in (0.001, 0.2, 0.5, 1.0)]
    assert kept[0] <= kept[1] <= kept[2] <= kept[3] == set(range(300))
    assert 3 <= len(kept[0]) <= 3 + 3
    assert 0.12 < len(kept[1]) / 300 < 0.28
    assert all(len({i for i in part if keys[i] == keys[j]}) == 3 for part in kept for j in part)


@pytest.fixture
def study(tmp_path):
    run = LocalRun(tmp_path, make_pairs(60))

    def start(ctx=None, **spec):
        return run.run("train_study", ctx, **{"reward_model": "model", "settings": QUICK, "n_seeds": 2, **spec})

    start.run = run
    return start


def test_arms_are_compared_under_the_same_seeds(study) -> None:
    arms = [{"name": "usual"}, {"name": "no learning", "settings": {"learning_rate": 1e-12}}]
    found = study(arms=arms, n_seeds=3)
    assert [(r["arm"], r["seed"]) for r in found["runs"]] == [(a["name"], s) for a in arms for s in range(3)]
    assert found["differences"]["no learning"]["value"] < -0.2
    assert found["best"] == "usual"
    assert {r["n_validation"] for r in found["runs"] if r["seed"] == 1} == {found["runs"][1]["n_validation"]}
    assert not study.run.checkpoints, "nothing was asked to be kept"


def test_a_grid_is_every_combination_of_its_values(study) -> None:
    found = study(question="grid", grid={"learning_rate": [1e-3, 2e-3], "config.head_depth": [1, 2]}, n_seeds=1)
    assert [arm["name"] for arm in found["arms"]] == [
        "learning_rate 0.001, head_depth 1",
        "learning_rate 0.001, head_depth 2",
        "learning_rate 0.002, head_depth 1",
        "learning_rate 0.002, head_depth 2",
    ]
    assert len(found["runs"]) == 4


def test_a_learning_curve_trains_on_more_and_more(study) -> None:
    found = study(question="learning_curve", shares=[0.2, 1.0], keep_checkpoints=True)
    sizes = [row["n_train"] for row in found["runs"]]
    assert sizes[0] < sizes[2]
    assert sizes[1] < sizes[3]
    assert {row["checkpoint"] for row in found["runs"]} == set(study.run.checkpoints)


def test_a_killed_study_goes_on_with_the_next_training(study) -> None:
    arms = [{"name": "one"}, {"name": "two", "settings": {"learning_rate": 1e-3}}]
    whole = study(arms=arms)
    ctx = study.run.context("killed", is_cancelled=lambda: len(ctx.metrics) >= 2)
    with pytest.raises(JobCancelled):
        study(ctx, arms=arms)
    again = study.run.context("killed", attempt=2)
    resumed = study(again, arms=arms)
    strip = [
        {k: v for k, v in r.items() if k not in ("seconds", "seconds_per_response", "peak_rss_mib")}
        for r in whole["runs"]
    ]
    assert [
        {k: v for k, v in r.items() if k not in ("seconds", "seconds_per_response", "peak_rss_mib")}
        for r in resumed["runs"]
    ] == strip


FIGURES = ("value", "loss", "ece", "n_train", "n_validation")


def frozen_study(study, monkeypatch, name, *, shared, **spec):
    """What a study over a frozen backbone finds, its weights, and how many texts each reading of the backbone took."""
    from workers.nn import features, training_job

    read = []
    inner = features.encode_features

    def counting(net, encoded, **options):
        read.append(len(encoded))
        return inner(net, encoded, **options)

    with monkeypatch.context() as patch:
        patch.setattr(features, "encode_features", counting)
        if not shared:
            patch.setattr(training_job, "feature_folder", lambda ctx: ctx.work_dir / "features")
        ctx = study.run.context(name)
        spec["settings"] = {**QUICK, "freeze_backbone": True, **spec.get("settings", {})}
        found = study(ctx, keep_checkpoints=True, **spec)
    assert not (ctx.work_dir / "features").exists()
    weights = [
        (study.run.checkpoints[row["checkpoint"]].path / "weights.safetensors").read_bytes() for row in found["runs"]
    ]
    return [{k: row[k] for k in FIGURES} for row in found["runs"]], weights, read


@pytest.mark.parametrize(
    ("spec", "n_sets"),
    [
        ({"question": "learning_curve", "shares": [0.5, 1.0], "n_seeds": 2}, 1),
        ({"question": "grid", "grid": {"learning_rate": [1e-3, 2e-3], "config.head_depth": [1, 2]}}, 1),
        ({"question": "grid", "grid": {"config.max_length": [32, 64], "learning_rate": [1e-3, 2e-3]}}, 2),
        ({"question": "grid", "grid": {"config.pooling": ["mean", "first"], "token_budget": [256, 512]}}, 4),
    ],
)
def test_a_study_reads_its_texts_once_and_finds_the_same_bit_for_bit(study, monkeypatch, spec, n_sets) -> None:
    spec = {"n_seeds": 1, **spec}
    shared, weights, read = frozen_study(study, monkeypatch, "shared", shared=True, **spec)
    apart, same_weights, each = frozen_study(study, monkeypatch, "apart", shared=False, **spec)
    assert shared == apart
    assert weights == same_weights
    assert read == [120] * n_sets
    assert each == [120] * 4


def test_arms_with_other_texts_have_features_of_their_own(study, monkeypatch) -> None:
    """Leaving ties out changes the batches, and a batch changes the last bits."""
    study.run.pairs = make_pairs(40, tie_every=4)
    arms = [{"name": "without ties"}, {"name": "with", "settings": {"objective_config": {"ties": "half"}}}]
    shared, weights, read = frozen_study(study, monkeypatch, "shared", shared=True, arms=arms)
    apart, same_weights, _ = frozen_study(study, monkeypatch, "apart", shared=False, arms=arms)
    assert (shared, weights) == (apart, same_weights)
    assert read == [60, 80]


def test_features_of_the_oldest_set_make_room(study, monkeypatch) -> None:
    spec = {"question": "grid", "grid": {"config.max_length": [24, 32, 40, 48, 56, 64]}, "n_seeds": 1}
    ctx = study.run.context("kept")
    sizes = []
    monkeypatch.setattr(
        "workers.jobs.train_study._clear", lambda _: sizes.append(len(list((ctx.work_dir / "features").iterdir())))
    )
    study(ctx, settings={**QUICK, "freeze_backbone": True}, **spec)
    assert sizes == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"arms": [{"name": "one"}]}, "two arms"),
        ({"arms": [{"name": "one"}, {"name": "one"}]}, "same name"),
        ({"question": "grid", "grid": {"learning_rate": [1]}}, "two values"),
        ({"question": "learning_curve", "shares": [0.0]}, "above 0"),
        ({"arms": [{"name": "a"}, {"name": "b", "settings": {"learning_rate": -1}}]}, "b, learning_rate"),
        ({"arms": [{"name": "a"}, {"name": "b", "settings": {"nope": 1}}]}, "b, nope"),
        ({"arms": [{"name": "a"}, {"name": "b", "config": {"nope": 1}}]}, "b, config/nope"),
        ({"question": "grid", "grid": {"seed": list(range(200))}, "n_seeds": 3}, "600 trainings"),
    ],
)
def test_bad_studies_are_refused_before_they_start(study, spec, says) -> None:
    with pytest.raises(SpecError, match=says):
        study(**spec)


def test_a_setting_of_the_objective_is_varied_by_its_name() -> None:
    job = JOBS.get("train_study")
    raw = {
        "reward_model": "model",
        "source": {"dataset": "pairs"},
        "question": "grid",
        "grid": {"objective_config.label_smoothing": [0.0, 0.2]},
        "settings": {"objective": "bradley_terry", "objective_config": {"centre_coefficient": 0.5}},
    }
    spec = parse_spec(job.Spec, raw)
    arms = list(arms_of(spec))
    assert [arm.name for arm in arms] == ["label_smoothing 0.0", "label_smoothing 0.2"]
    parsed, objective = arm_spec(spec, arms[1], 0, "scalar_head", config={"backbone": "tiny-encoder"})
    assert parsed.objective_config == {"centre_coefficient": 0.5, "label_smoothing": 0.2}
    assert objective.config.label_smoothing == 0.2
    wrong = parse_spec(job.Spec, {**raw, "grid": {"objective_config.smoothing": [0.0, 0.2]}})
    with pytest.raises(SpecError, match="smoothing"):
        arm_spec(wrong, next(arms_of(wrong)), 0, "scalar_head", config={"backbone": "tiny-encoder"})
