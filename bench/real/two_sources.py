"""HH and UltraFeedback as two sources of pairs."""

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.real_data import load
from workers.context import CheckpointRef, LocalJobContext, RewardModelRef
from workers.data.schema import PreferencePair
from workers.jobs import JOBS
from workers.specs import parse_spec

SOURCES = ("hh", "ultrafeedback")
MODEL = {"backbone": "minilm", "max_length": 128}
QUICK = {"freeze_backbone": True, "learning_rate": 1e-3, "epochs": 12, "batch_pairs": 32, "eval_every": 10}


def sample(n: int, *, seed: int = 0) -> list[PreferencePair]:
    """n pairs with a verdict of each source."""
    rng, found = random.Random(seed), []
    for name in SOURCES:
        pairs = [pair for pair in load(name) if pair.verdict in ("a", "b")]
        found += [replace(pair, source=name) for pair in rng.sample(pairs, min(n, len(pairs)))]
    return found


def context(
    pairs: Mapping[str, Sequence[PreferencePair]],
    family: str,
    config: dict[str, Any],
    checkpoints: dict[str, CheckpointRef],
) -> LocalJobContext:
    return LocalJobContext(
        Path(tempfile.mkdtemp(prefix="steelyard-real-")),
        pairs=pairs,
        reward_models={"model": RewardModelRef("model", family, config)},
        reward_model="model",
        checkpoints=checkpoints,
    )


def job(kind: str, ctx: LocalJobContext, **spec: Any) -> dict[str, Any]:
    entry: Any = JOBS.get(kind)
    found: dict[str, Any] = entry().run(ctx, parse_spec(entry.Spec, spec))
    return found
