"""The family autoregressive on short HH pairs, from a byte-level language model that is trained here from scratch.

    python -m bench.real.autoregressive

No pretrained causal model comes with the package, so this shows the path on real text, not what the method can do.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.real_data import context, load
from bench.real_data import run as run_job
from workers.data.schema import PreferencePair
from workers.data.split import split_by_prompt
from workers.environment import peak_rss_mib
from workers.nn.small_lm import make_small_lm

LONGEST, N_PAIRS = 150, 600


def short_pairs(n: int = N_PAIRS) -> list[PreferencePair]:
    """HH pairs whose responses are at most 150 bytes each, so that both fit into 256 byte tokens."""
    fits = [p for p in load("hh") if max(_n_bytes(p.response_a), _n_bytes(p.response_b)) <= LONGEST]
    return [p for p in fits if p.verdict in ("a", "b")][:n]


def _n_bytes(messages: Any) -> int:
    return sum(len(message["content"].encode()) for message in messages)


def run() -> dict[str, Any]:
    started = time.monotonic()
    pairs = short_pairs()
    train, test = split_by_prompt([p.prompt_key for p in pairs], validation_share=0.25, seed=0)
    folder = Path(tempfile.mkdtemp(prefix="steelyard-lm-"))
    losses = make_small_lm(folder, [(pairs[i].prompt, pairs[i].chosen) for i in train], width=64, n_steps=120, batch=16)
    sources: dict[str, Sequence[PreferencePair]] = {
        "train": [pairs[i] for i in train],
        "test": [pairs[i] for i in test],
    }
    ctx = context(sources, "autoregressive", {"backbone": str(folder), "max_length": 256})
    trained = run_job(
        "train_rm",
        ctx,
        reward_model="model",
        source={"dataset": "train"},
        epochs=2,
        batch_pairs=16,
        learning_rate=1e-3,
        token_budget=4096,
    )
    found = run_job("evaluate", ctx, checkpoint=trained["checkpoint"], source={"dataset": "test"})
    return {
        "family": "autoregressive",
        "data": f"HH, responses of at most {LONGEST} bytes",
        "n_train": trained["n_train"] + trained["n_validation"],
        "n_test": found["accuracy"]["n"],
        "metric": "accuracy",
        **{key: round(found["accuracy"][key], 4) for key in ("value", "low", "high")},
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
        "n_parameters": trained["n_parameters"],
        "lm_loss": [round(losses[0], 2), round(losses[-1], 2)],
        "length_correlation": trained["finished"]["length_correlation"],
    }


if __name__ == "__main__":
    print(json.dumps(run()))
