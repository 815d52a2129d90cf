"""A pool of small Markov policies, and a discriminator trained on it from scratch by the real job."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.workers.making import LocalRun, turn
from workers.data.policy_pool import (
    MarkovPolicy,
    jensen_shannon,
    mixed_policy,
    pool_pairs,
    prefixes_of,
    random_policy,
    ranked_pair,
)
from workers.data.schema import PreferencePair
from workers.families import FAMILIES
from workers.families.base import Item
from workers.nn.small_lm import make_small_lm
from workers.specs import parse_spec
from workers.stats.rank_correlation import spearman

FAMILY: Any = FAMILIES.get("policy_discriminator")
LENGTH = 40
TRAINED_ON, HELD_OUT, N_PAIRS = 480, 8, 16_000
"""Policies of a pool, and pairs of it. Few are learnt by heart; from 240 and 4,000 pairs a model erred on some."""
QUICK = {
    "learning_rate": 1e-3,
    "head_learning_rate": 3e-3,
    "epochs": 1,
    "batch_pairs": 16,
    "validation_share": 0.02,
    "token_budget": 8192,
    "dtype": "float32",
    "objective_config": {"centre_coefficient": 0.0},
    "keep": "last",
}


def make_pool(n: int, *, seed: int = 0) -> list[MarkovPolicy]:
    rng = np.random.default_rng(seed)
    return [random_policy(f"p{i}", rng) for i in range(n)]


def texts_after_prefixes(policies: Sequence[MarkovPolicy], n: int, *, seed: int) -> list[PreferencePair]:
    """Pool pairs on prefixes of 2 to 8 letters that any of the policies may have written."""
    rng = np.random.default_rng(seed)
    texts = [policy.write("", 12, rng) for policy in policies for _ in range(20)]
    prefixes = prefixes_of(texts, n, rng, shortest=2, longest=8)
    return pool_pairs(policies, prefixes, length=LENGTH, rng=rng).pairs


def rankings(policies: Sequence[MarkovPolicy], n: int, *, seed: int) -> list[PreferencePair]:
    """Three texts each, ranked by a hidden rule: their likelihood under the policy that wrote the prompt."""
    rng = np.random.default_rng(seed)
    rows: list[PreferencePair] = []
    while len(rows) < n:
        own, other = (policies[i] for i in rng.choice(len(policies), size=2, replace=False))
        prompt = own.write("", 16, rng)
        texts = [mixed_policy(own, other, share).write(prompt, LENGTH, rng) for share in (0.0, 0.3, 1.0)]
        ranked = sorted(texts, key=own.log_likelihood, reverse=True)
        if len(set(ranked)) == 3:
            rows.append(ranked_pair(f"rank-{len(rows)}", prompt, ranked, is_a=bool(rng.random() < 0.5)))
    return rows


def make_backbone(folder: Path, pairs: Sequence[PreferencePair], *, n_steps: int = 150, seed: int = 0) -> str:
    """A language model of 90,816 weights, trained on two texts of one policy after each prefix."""
    items: list[Item] = []
    for pair in pairs:
        text = "".join(part[0]["content"] for part in (pair.prompt, pair.reference or [], pair.chosen))
        items.append(([turn("user", "")], [turn("assistant", text)]))
    make_small_lm(folder, items, width=64, n_steps=n_steps, seed=seed)
    return str(folder)


class Discriminator:
    """Trained in a folder of its own; goes on from another where one is given."""

    def __init__(
        self, folder: Path, backbone: str, pairs: Sequence[PreferencePair], *, joint: str = "none", **spec: Any
    ) -> None:
        start = spec.pop("start", None)
        self.model = {"backbone": backbone, "max_length": 256, "joint": joint}
        run = LocalRun(folder, pairs, self.model, FAMILY.name, start.checkpoints if start else {})
        self.context = run.context()
        more = {"start_from": start.result["checkpoint"]} if start else {}
        self.result = run.train(self.context, **{**QUICK, **more, **spec})
        self.checkpoints = self.context.checkpoints
        self.scorer = FAMILY.open(parse_spec(FAMILY.Config, self.model), self.context.work_dir / "checkpoint")

    def accuracy(self, pairs: Sequence[PreferencePair], *, has_reference: bool = True) -> float:
        """Share of pairs whose chosen response has the higher reward; without a reference, one that says nothing."""
        items = [
            (pair.prompt, response, {"reference": pair.reference if has_reference else [turn("assistant", ".")]})
            for pair in pairs
            for response in (pair.chosen, pair.rejected)
        ]
        chosen, rejected = self.scorer.score(items).values.reshape(-1, 2).T
        return float((chosen > rejected).mean())

    def mean_rewards(self, p: MarkovPolicy, policies: Sequence[MarkovPolicy], n: int, *, seed: int) -> list[float]:
        """Mean reward of each policy's texts, each beside a reference that p wrote after the same prefix."""
        rng = np.random.default_rng(seed)
        prefixes = [p.write("", 5, rng) for _ in range(n)]
        references = [p.write(prefix, LENGTH, rng) for prefix in prefixes]
        means = []
        for policy in policies:
            items = [
                (
                    [turn("user", prefix)],
                    [turn("assistant", policy.write(prefix, LENGTH, rng))],
                    {"reference": [turn("assistant", reference)]},
                )
                for prefix, reference in zip(prefixes, references, strict=True)
            ]
            means.append(float(self.scorer.score(items).values.mean()))
        return means


def distance_curves(
    model: Discriminator, policies: Sequence[MarkovPolicy], *, n: int = 200
) -> tuple[list[float], list[list[float]]]:
    """Mean rewards from P to Q of neighbouring policies, and their rank correlation with the divergence from P."""
    correlations, curves = [], []
    for k in range(0, len(policies), 2):
        p, q = policies[k : k + 2]
        away = [mixed_policy(p, q, share) for share in (0, 0.25, 0.5, 0.75, 1)]
        curves.append(model.mean_rewards(p, away, n, seed=k))
        correlations.append(spearman(curves[-1], [jensen_shannon(p, one) for one in away]))
    return correlations, curves


def first_stage(folder: Path, *, seed: int = 0) -> tuple[Discriminator, str, list[MarkovPolicy]]:
    """A discriminator, its backbone, and all policies: the last HELD_OUT were never shown to it."""
    policies = make_pool(TRAINED_ON + HELD_OUT, seed=seed)
    pairs = texts_after_prefixes(policies[:TRAINED_ON], N_PAIRS, seed=seed + 1)
    backbone = make_backbone(folder / "lm", pairs[:4000], seed=seed)
    return Discriminator(folder / "one", backbone, pairs, seed=seed), backbone, policies


def second_stage(
    folder: Path, model: Discriminator, backbone: str, policies: Sequence[MarkovPolicy], *, seed: int = 0
) -> dict[str, float]:
    """Accuracy, second against third of 400 rankings, after both stages, after the second and after the first alone."""
    rows, held_out = (rankings(policies, n, seed=seed + more) for n, more in ((300, 4), (400, 5)))
    two: dict[str, Any] = {"epochs": 3, "learning_rate": 5e-4, "joint": "newline", "seed": seed}
    after = Discriminator(folder / "after", backbone, rows, start=model, **two)
    alone = Discriminator(folder / "alone", backbone, rows, **two)
    named = {"both stages": after, "second alone": alone, "first alone": model}
    return {name: one.accuracy(held_out) for name, one in named.items()}
