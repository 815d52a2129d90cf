"""Train a head on made-up features with the real trainer: worlds whose truth is known need no texts."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from workers.context import LocalJobContext
from workers.nn.net import Net
from workers.nn.trainer import Plan, Trainer
from workers.nn.training_state import Progress, StateStore
from workers.nn.units import Features, UnitData
from workers.objectives.base import LabelTargets, PairTargets

Array = np.ndarray[Any, Any]


class FeatureNet(Net):
    """A head without a backbone."""

    def __init__(self, head: Any) -> None:
        super().__init__(pad_id=0)
        self.backbone, self.head = nn.Identity(), head


def pair_data(
    a: Array, b: Array, is_a: Array, *, prompt: Array | None = None, raters: list[str] | None = None, keys: Any = None
) -> UnitData:
    """Pairs of features (n, d) with the verdict a where `is_a`."""
    n = len(a)
    prompt = None if prompt is None else prompt.astype(np.float32)
    return UnitData(
        columns=[[None] * n, [None] * n],  # type: ignore[list-item]
        targets=PairTargets(
            is_used=np.ones(n, dtype=np.bool_),
            target=is_a.astype(np.float64),
            weight=np.ones(n),
            offset=np.zeros(n),
            is_tie=np.zeros(n, dtype=np.bool_),
        ),
        prompt_keys=[f"p{i}" for i in range(n)] if keys is None else list(keys),
        fingerprint="made up",
        n_read=n,
        left_out={},
        ids=[str(i) for i in range(n)],
        sources=[""] * n,
        raters=raters or [""] * n,
        features=[Features(a.astype(np.float32), prompt), Features(b.astype(np.float32), prompt)],
    )


def labelled_data(x: Array, values: Array, *, keys: Any) -> UnitData:
    """Responses of features (n, d) with known values (n, k), nan where there is none."""
    n = len(x)
    return UnitData(
        columns=[[None] * n],  # type: ignore[list-item]
        targets=LabelTargets(is_used=np.ones(n, dtype=np.bool_), values=values, weight=np.ones(n)),
        prompt_keys=list(keys),
        fingerprint="made up",
        n_read=n,
        left_out={},
        ids=[str(i) for i in range(n)],
        sources=[""] * n,
        raters=[""] * n,
        features=[Features(x.astype(np.float32))],
    )


def train_head(
    folder: Path,
    head: Any,
    objective: Any,
    data: UnitData,
    rows: Array,
    *,
    n_steps: int,
    batch: int = 128,
    rate: float = 0.01,
    seed: int = 0,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
) -> FeatureNet:
    """`n_steps` of the real trainer on `rows`; nothing is validated on the way."""
    net = FeatureNet(head)
    plan = Plan(
        n_steps=n_steps,
        n_pairs=batch,
        learning_rate=rate,
        head_learning_rate=rate,
        n_warmup=round(0.05 * n_steps),
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        eval_every=n_steps,
        checkpoint_every=n_steps,
        patience=None,
        token_budget=1 << 20,
        seed=seed,
    )
    none = np.array([], dtype=np.int64)
    Trainer(
        LocalJobContext(folder),
        net,
        objective,
        data,
        (rows, none),
        plan=plan,
        states=StateStore(folder / "states"),
        progress=Progress(fingerprint="", dtype="float32"),
    ).run()
    net.eval()
    return net


def seeded(seed: int, make: Any) -> Any:
    """A head whose first weights follow from the seed."""
    torch.manual_seed(seed)
    return make()
