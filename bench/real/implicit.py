"""Explicit and implicit reward from one start: trained alike, compared near to and far from the training pairs.

    python -m bench.real.implicit [--pairs 600] [--seeds 1] [--width 64] [--full]

Prompts are real first questions of HH; which response is preferred is a rule: the one that is willing to help. Both
reward models start from one byte-level language model, trained here on the preferred and the rejected texts alike, and
see the same pairs, in the same order, for the same number of epochs; each keeps its best weights by validation loss.
--full is 2,000 pairs and three seeds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.real_data import context, load
from bench.real_data import run as run_job
from workers.context import LocalJobContext, RewardModelRef
from workers.data.schema import PreferencePair
from workers.environment import peak_rss_mib
from workers.nn.small_lm import make_small_lm

WILLING = (
    *("I would be glad to help you.", "Sure, here is what I know.", "Yes, I can explain it.", "Of course, happily."),
    *(
        "That is easy to answer for you.",
        "Let me help you with this.",
        "My answer is below, enjoy.",
        "Good, I will tell you.",
    ),
)
UNWILLING = (
    *("I do not want to help you.", "No, find it out yourself.", "That is not my problem.", "I refuse to say."),
    *(
        "Let me be, I am busy.",
        "My time is too short for you.",
        "Sorry, I will not tell you.",
        "Of course not, go home.",
    ),
)
WILLING_FAR = (
    *("Happy to assist with that.", "Certainly, allow me to describe this.", "Absolutely, my pleasure."),
    *("This one I know well, read on.", "Glad you asked, it goes like so.", "With joy: the details follow."),
)
UNWILLING_FAR = (
    *("Assisting is out of the question.", "Certainly never, ask elsewhere.", "Absolutely no interest in that."),
    *("This bores me, leave it alone.", "Rude of you to ask, stop it.", "With respect, find another fool."),
)
ASKED = "{}"
ASKED_FAR = "Rewrite this sentence for a newspaper: {}"
LONGEST = 60


def questions() -> list[str]:
    """First questions of at most 60 characters, each once."""
    firsts = (pair.prompt[0]["content"].strip().replace("\n", " ") for pair in load("hh"))
    return list(dict.fromkeys(text for text in firsts if 10 <= len(text) <= LONGEST))


def make_pairs(
    name: str, asked: Sequence[str], template: str, texts: tuple[Sequence[str], Sequence[str]], *, n: int, seed: int
) -> list[PreferencePair]:
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(n):
        prompt = [{"role": "user", "content": template.format(asked[number % len(asked)])}]
        good, bad = ([{"role": "assistant", "content": str(rng.choice(side))}] for side in texts)
        first = bool(rng.random() < 0.5)
        key = f"{seed}:{name}:{number}"
        pairs.append(
            PreferencePair(
                pair_id=key,
                prompt=prompt,  # type: ignore[arg-type]
                response_a=good if first else bad,  # type: ignore[arg-type]
                response_b=bad if first else good,  # type: ignore[arg-type]
                verdict="a" if first else "b",
                response_a_id=hash((key, 0)),
                response_b_id=hash((key, 1)),
            )
        )
    return pairs


def sources_of(n: int, seed: int) -> dict[str, Sequence[PreferencePair]]:
    """Training pairs, and 200 each of: held-out questions, another task, other wordings."""
    asked = [str(text) for text in np.random.default_rng(seed).permutation(questions())]
    held_out, seen = asked[:200], asked[200:]
    near, far = (WILLING, UNWILLING), (WILLING_FAR, UNWILLING_FAR)
    return {
        "train": make_pairs("train", seen, ASKED, near, n=n, seed=seed),
        "held out": make_pairs("held out", held_out, ASKED, near, n=200, seed=seed),
        "other task": make_pairs("other task", held_out, ASKED_FAR, near, n=200, seed=seed),
        "other wording": make_pairs("other wording", held_out, ASKED, far, n=200, seed=seed),
    }


KINDS = {"train": "train", "held out": "in_distribution"}


def study(n: int, *, seed: int, width: int) -> dict[str, Any]:
    sources = sources_of(n, seed)
    start = Path(tempfile.mkdtemp(prefix="steelyard-lm-"))
    items = [(p.prompt, response) for p in sources["train"] for response in (p.response_a, p.response_b)]
    make_small_lm(start, items, width=width, n_steps=120, batch=16, seed=seed)
    ctx = context(sources, "implicit", {"backbone": str(start), "max_length": 256})
    uids = [_trained(ctx, family, start, seed) for family in ("scalar_head", "implicit")]
    settings = [
        {"name": name, "kind": KINDS.get(name, "out_of_distribution"), "source": {"dataset": name}} for name in sources
    ]
    return run_job("implicit_study", ctx, checkpoint=uids[0], implicit=uids[1], settings=settings, seed=seed)


def _trained(ctx: LocalJobContext, family: str, start: Path, seed: int) -> str:
    config = {"backbone": str(start), "max_length": 256}
    ctx.reward_models = {"model": RewardModelRef("model", family, config)}
    ctx.work_dir = Path(tempfile.mkdtemp(prefix="steelyard-study-"))
    result = run_job(
        "train_rm",
        ctx,
        reward_model="model",
        source={"dataset": "train"},
        epochs=2,
        batch_pairs=16,
        learning_rate=1e-3,
        token_budget=4096,
        seed=seed,
    )
    return str(result["checkpoint"])


def rows(found: dict[str, Any], *, seed: int) -> list[dict[str, Any]]:
    return [
        {
            "seed": seed,
            "setting": s["name"],
            "n": s["n"],
            "explicit": _rate(s["explicit"]["accuracy"]),
            "implicit": _rate(s["implicit"]["accuracy"]),
            "gap": round(s["gap"], 4),
            "gap_interval": [round(s["gap_interval"][end], 4) for end in ("low", "high")],
            "mcnemar_p": float(f"{s['mcnemar']['p_value']:.3g}"),
        }
        for s in found["settings"]
    ]


def _rate(found: dict[str, Any]) -> list[float]:
    return [round(found[key], 4) for key in ("accuracy", "low", "high")]


def run(n: int = 600, *, seeds: int = 1, width: int = 64) -> dict[str, Any]:
    started = time.monotonic()
    told = []
    for seed in range(seeds):
        told += rows(study(n, seed=seed, width=width), seed=seed)
        for row in told[-4:]:
            print(json.dumps(row), flush=True)
    near = next(row for row in told if row["setting"] == "held out")
    return {
        "family": "implicit",
        "data": "HH questions, preference by rule",
        "n_train": n,
        "n_test": near["n"],
        "metric": "accuracy",
        **dict(zip(("value", "low", "high"), near["implicit"], strict=True)),
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mib": round(peak_rss_mib()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--full", action="store_true", help="2,000 pairs and three seeds")
    chosen = parser.parse_args()
    size = (2000, 3) if chosen.full else (chosen.pairs, chosen.seeds)
    print(json.dumps(run(size[0], seeds=size[1], width=chosen.width)))
