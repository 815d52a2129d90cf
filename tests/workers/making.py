"""Makers of pairs, contexts and runs for tests of `workers/`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workers.context import CheckpointRef, LocalJobContext, RewardModelRef
from workers.data.schema import Message, PreferencePair
from workers.jobs import JOBS
from workers.specs import parse_spec


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def make_pairs(n: int, *, seed: int = 0, tie_every: int = 0) -> list[PreferencePair]:
    """Pairs that a tiny model can learn: good words against bad ones, of every length, two pairs a prompt."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        prompt = [turn("user", f"question {i // 2} " + "why " * (i // 2 % 9))]
        good = [turn("assistant", "good " * int(rng.integers(1, 16)))]
        bad = [turn("assistant", "bad " * int(rng.integers(1, 16)))]
        verdict = "tie" if tie_every and i % tie_every == 0 else ("a" if rng.random() < 0.5 else "b")
        a, b = (bad, good) if verdict == "b" else (good, bad)
        made.append(
            PreferencePair(
                pair_id=f"pair-{i}",
                prompt=prompt,
                response_a=a,
                response_b=b,
                verdict=verdict,
                response_a_id=2 * i + 1,
                response_b_id=2 * i + 2,
                meta={"topic": f"topic {i % 3}"},
            )
        )
    return made


@dataclass
class LocalRun:
    """Runs jobs on a list of pairs in one folder; every run of the same name is another attempt of it."""

    folder: Path
    pairs: Sequence[PreferencePair]
    model: dict[str, Any] = field(default_factory=lambda: {"backbone": "tiny-encoder"})
    family: str = "scalar_head"
    checkpoints: dict[str, CheckpointRef] = field(default_factory=dict)

    def context(self, name: str = "run", **options: Any) -> LocalJobContext:
        return LocalJobContext(
            self.folder / name,
            pairs={"pairs": self.pairs},
            reward_models={"model": RewardModelRef("model", self.family, self.model)},
            reward_model="model",
            checkpoints=self.checkpoints,
            **options,
        )

    def run(self, kind: str, ctx: LocalJobContext | None = None, **spec: Any) -> dict[str, Any]:
        job: Any = JOBS.get(kind)
        usual = {"source": {"dataset": "pairs"}, **({"reward_model": "model"} if kind == "train_rm" else {})}
        return job().run(ctx or self.context(), parse_spec(job.Spec, {**usual, **spec}))

    def train(self, ctx: LocalJobContext | None = None, **spec: Any) -> dict[str, Any]:
        quick = {"learning_rate": 2e-3, "epochs": 2, "batch_pairs": 8, "validation_share": 0.2, "token_budget": 512}
        return self.run("train_rm", ctx, **{**quick, **spec})
