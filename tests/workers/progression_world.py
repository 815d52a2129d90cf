"""Progressions of digits: a rejected response goes wrong at one digit and goes on from there."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.workers.making import LocalRun, turn
from workers.data.schema import PreferencePair
from workers.families import FAMILIES
from workers.nn.small_lm import make_small_lm
from workers.specs import parse_spec
from workers.stats.auroc import auroc

FAMILY: Any = FAMILIES.get("goal_conditioned")
N_TERMS = 12


def make_progressions(n: int, *, seed: int) -> tuple[list[PreferencePair], list[int]]:
    """Pairs to the prompt "s,k", k from 1 to 3, and the place of the wrong digit in each rejected response."""
    rng = np.random.default_rng(seed)
    pairs, places = [], []
    for number in range(n):
        s, k, wrong, by = (int(rng.integers(*ends)) for ends in ((0, 10), (1, 4), (1, N_TERMS), (1, 10)))
        good = [(s + i * k) % 10 for i in range(N_TERMS)]
        bad = [(digit + by * (i >= wrong)) % 10 for i, digit in enumerate(good)]
        texts = [[turn("a", "".join(map(str, digits)))] for digits in (good, bad)]
        is_a = bool(rng.random() < 0.5)
        pairs.append(
            PreferencePair(
                pair_id=f"pair-{number}",
                prompt=[turn("u", f"{s},{k}")],
                response_a=texts[0 if is_a else 1],
                response_b=texts[1 if is_a else 0],
                verdict="a" if is_a else "b",
                prompt_key=str(number),  # there are but thirty prompts
            )
        )
        places.append(wrong)
    return pairs, places


def make_backbone(folder: Path, pairs: list[PreferencePair], *, seed: int = 0) -> str:
    """A language model of 90,752 weights that has seen right progressions."""
    make_small_lm(folder, [(pair.prompt, pair.chosen) for pair in pairs], width=64, n_steps=400, seed=seed)
    return str(folder)


def train_and_measure(
    folder: Path,
    backbone: str,
    pairs: list[PreferencePair],
    test: tuple[list[PreferencePair], list[int]],
    *,
    beta: float,
    epochs: float = 4,
    seed: int = 0,
) -> dict[str, float]:
    """AUROC of whole responses, and of the values of tokens before against from the wrong digit on."""
    model = {"backbone": backbone, "rendering": "plain"}
    run = LocalRun(folder, pairs, model, FAMILY.name)
    ctx = run.context()
    run.train(
        ctx,
        learning_rate=1e-3,
        head_learning_rate=1e-3,
        epochs=epochs,
        batch_pairs=32,
        validation_share=0.05,
        token_budget=16384,
        dtype="float32",
        objective_config={"beta": beta},
        keep="last",
        seed=seed,
    )
    scorer = FAMILY.open(parse_spec(FAMILY.Config, model), ctx.work_dir / "checkpoint", per_token=True)
    chosen = scorer.score([(pair.prompt, pair.chosen) for pair in test[0]])
    rejected = scorer.score([(pair.prompt, pair.rejected) for pair in test[0]])
    values = np.array([[token["value"] for token in part["tokens"]][:N_TERMS] for part in rejected.parts])
    is_before = np.arange(N_TERMS) < np.array(test[1])[:, None]
    kept = np.arange(1, N_TERMS)  # the first digit is never wrong
    whole = np.concatenate([chosen.values, rejected.values])
    return {
        "whole": auroc(whole, np.arange(len(whole)) < len(test[0])),
        "tokens": auroc(values[:, kept].ravel(), is_before[:, kept].ravel()),
    }
