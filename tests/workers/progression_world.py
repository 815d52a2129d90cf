"""Progressions of digits: a rejected response goes wrong at one digit and goes on from there."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.workers.making import LocalRun, turn
from workers.data.render import Renderer
from workers.data.schema import PreferencePair
from workers.families import FAMILIES
from workers.nn.small_lm import make_small_lm
from workers.specs import parse_spec
from workers.stats.auroc import auroc
from workers.stats.pruned_voting import Sample, choose_tau, pruned_voting

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
    epochs: float = 8,
    seed: int = 0,
) -> dict[str, float]:
    """AUROC of whole responses, and of the values of tokens before against from the wrong digit on."""
    return measured(train_values(folder, backbone, pairs, beta=beta, epochs=epochs, seed=seed), test)


def train_values(
    folder: Path, backbone: str, pairs: list[PreferencePair], *, beta: float, epochs: float = 8, seed: int = 0
) -> Any:
    """A scorer that tells the value of every token."""
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
    return FAMILY.open(parse_spec(FAMILY.Config, model), ctx.work_dir / "checkpoint", per_token=True)


def measured(scorer: Any, test: tuple[list[PreferencePair], list[int]]) -> dict[str, float]:
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


# --- voting among samples of the language model


def sampled_digits(backbone: str, asked: list[tuple[int, int]], *, temperature: float, seed: int) -> list[str]:
    """One continuation of N_TERMS digits to each question "s,k", sampled from the language model among digits alone."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    model = AutoModelForCausalLM.from_pretrained(backbone).eval()
    digits = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))
    encoded = Renderer(tokenizer, 256, "plain").encode(
        [([turn("u", f"{s},{k}")], [turn("a", "0")]) for s, k in asked]  # all of one length
    )
    ids = torch.from_numpy(np.stack([one.ids[: len(one) - one.n_response] for one in encoded])).long()
    generator, cache, written = torch.Generator().manual_seed(seed), None, []
    with torch.inference_mode():
        for _ in range(N_TERMS):
            told = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache, logits = told.past_key_values, told.logits[:, -1, digits].float()
            drawn = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator)
            written.append(drawn)
            ids = digits[drawn]
    return ["".join(map(str, row)) for row in torch.cat(written, dim=1).tolist()]


def questions_of(
    scorer: Any, backbone: str, n: int, *, k: int, temperature: float, seed: int
) -> tuple[list[list[Sample]], list[str]]:
    """n questions with k samples each, the value of every digit, and the true last digit of each."""
    rng = np.random.default_rng(seed)
    asked = [(int(s), int(by)) for s, by in zip(rng.integers(0, 10, n), rng.integers(1, 4, n), strict=True)]
    each = [question for question in asked for _ in range(k)]
    texts = sampled_digits(backbone, each, temperature=temperature, seed=seed)
    items = [([turn("u", f"{s},{by}")], [turn("a", text)]) for (s, by), text in zip(each, texts, strict=True)]
    values = [[token["value"] for token in part["tokens"]][:N_TERMS] for part in scorer.score(items).parts]
    samples = [Sample(text[-1], np.array(own)) for text, own in zip(texts, values, strict=True)]
    truths = [str((s + (N_TERMS - 1) * by) % 10) for s, by in asked]
    return [samples[i * k : (i + 1) * k] for i in range(n)], truths


def half_right(backbone: str, *, seed: int) -> float:
    """The temperature, of a few, at which the share of samples with the right last digit is nearest to 0.55."""
    asked = [(s, by) for s in range(10) for by in (1, 2, 3)] * 10
    truths = [str((s + (N_TERMS - 1) * by) % 10) for s, by in asked]

    def away(temperature: float) -> float:
        texts = sampled_digits(backbone, asked, temperature=temperature, seed=seed)
        return abs(float(np.mean([text[-1] == truth for text, truth in zip(texts, truths, strict=True)])) - 0.55)

    return min(np.arange(0.75, 3.01, 0.25).tolist(), key=away)


def vote(scorer: Any, backbone: str, *, seed: int) -> dict[str, float]:
    """Pruned voting of 15 samples on 150 questions, at the tau chosen on 100 others."""
    temperature = half_right(backbone, seed=seed)
    chosen_on, tested_on = (
        questions_of(scorer, backbone, n, k=15, temperature=temperature, seed=seed + more)
        for n, more in ((100, 1), (150, 2))
    )
    tau = choose_tau(*chosen_on, taus=np.linspace(-0.5, 0.95, 30).tolist())
    told = pruned_voting(*tested_on, tau=tau)
    nothing = pruned_voting(*tested_on, tau=-1)
    return {"temperature": temperature, "tau": tau, "cut at -1": nothing.cut, **told.as_json()}
