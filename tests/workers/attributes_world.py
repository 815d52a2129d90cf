"""Worlds with known ratings: texts whose words say how they are rated, and features without texts."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.making import LocalRun, turn
from workers.context import LocalJobContext
from workers.data.schema import LabelledResponse, PreferencePair
from workers.nn.backbone import load_backbone
from workers.nn.heads import Head
from workers.nn.reward_net import RewardNet
from workers.nn.trainer import Plan, Trainer
from workers.nn.training_state import Progress, StateStore
from workers.nn.units import Features, UnitData
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets

PLANTED = ["kind", "clear", "verbosity"]
NOISE = "shuffled"
SCALE = {name: (0.0, 4.0) for name in [*PLANTED, NOISE]}


def rated_text(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    """Words of kindness, of clarity and none of both; ratings from 0 to 4 count them."""
    kind, clear = int(rng.integers(0, 5)), int(rng.integers(0, 5))
    filler = int(rng.integers(0, 5))
    words = ["kkkk"] * kind + ["jjjj"] * clear + ["zzzz"] * (8 + 2 * filler - kind - clear)
    return " ".join(rng.permutation(words)), {"kind": kind, "clear": clear, "verbosity": float(filler)}


def rated_rows(n: int, *, seed: int = 0, missing: float = 0.0) -> list[LabelledResponse]:
    """Two rated responses a prompt; a share of the ratings is missing. `shuffled` has nothing to do with the text."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        text, ratings = rated_text(rng)
        told = {**ratings, NOISE: float(rng.integers(0, 5))}
        kept = {name: value for name, value in told.items() if rng.random() >= missing}
        prompt = [turn("user", f"q{i // 2}")]
        rows.append(LabelledResponse(prompt, [turn("assistant", text)], kept, response_id=i + 1))
    return rows


def rated_pairs(n: int, *, seed: int = 0) -> list[PreferencePair]:
    """What is asked for decides: after BBBB the kinder response is preferred, after PPPP the clearer one."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        (text_a, a), (text_b, b) = rated_text(rng), rated_text(rng)
        wanted, word = ("kind", "BBBBBBBB") if i % 2 else ("clear", "PPPPPPPP")
        made.append(
            PreferencePair(
                pair_id=f"pair-{i}",
                prompt=[turn("user", f"{word} {i}")],
                response_a=[turn("assistant", text_a)],
                response_b=[turn("assistant", text_b)],
                verdict="tie" if a[wanted] == b[wanted] else ("a" if a[wanted] > b[wanted] else "b"),
                response_a_id=2 * i + 1,
                response_b_id=2 * i + 2,
            )
        )
    return made


def train_on_ratings(
    folder: Path, rows: list[LabelledResponse], family: str, model: dict[str, Any], **spec: Any
) -> tuple[LocalRun, LocalJobContext, dict[str, Any]]:
    """The real job on rated responses."""
    local = LocalRun(folder, [], {"backbone": "tiny-encoder", **model}, family)
    ctx = local.context(family, labelled={"pairs": rows})
    result = local.train(ctx, **{"objective": "attribute_regression", **spec})
    return local, ctx, result


def feature_trainer(
    folder: Path,
    head: Head,
    sides: tuple[Features, Features],
    targets: PairTargets,
    *,
    n_train: int,
    plan: dict[str, Any],
    objective: dict[str, Any] | None = None,
) -> Trainer:
    """The usual trainer with Bradley-Terry on given features, the first n_train pairs to train on."""
    n = len(targets.target)
    net = RewardNet(load_backbone("tiny-encoder"), "mean", head=head)
    net.backbone.requires_grad_(False)
    entry: Any = OBJECTIVES.get("bradley_terry")
    item: Any = None
    data = UnitData(
        columns=[[item] * n, [item] * n],
        targets=targets,
        prompt_keys=[str(i) for i in range(n)],
        fingerprint="",
        n_read=n,
        left_out={},
        ids=[str(i) for i in range(n)],
        sources=[""] * n,
        raters=[""] * n,
        features=list(sides),
    )
    usual = {
        "n_steps": 300, "n_pairs": 256, "learning_rate": 1e-3, "head_learning_rate": 1e-3, "n_warmup": 0,
        "weight_decay": 0.0, "max_grad_norm": 10.0, "eval_every": 100, "checkpoint_every": 1000, "patience": None,
        "token_budget": 100_000, "seed": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    return Trainer(
        LocalJobContext(folder / "job"),
        net,
        entry(entry.Config(**(objective or {"centre_coefficient": 0.0}))),
        data,
        (np.arange(n_train), np.arange(n_train, n)),
        plan=Plan(**{**usual, **plan}),
        states=StateStore(folder / "states"),
        progress=Progress("", "float32"),
    )


def pair_targets_of(preferred: np.ndarray) -> PairTargets:
    """preferred : bool (n,), whether response_a is."""
    n = len(preferred)
    return PairTargets(
        is_used=np.ones(n, dtype=bool),
        target=preferred.astype(np.float64),
        weight=np.ones(n),
        offset=np.zeros(n),
        is_tie=np.zeros(n, dtype=bool),
    )
