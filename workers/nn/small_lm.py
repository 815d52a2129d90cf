"""A small byte-level language model trained from scratch: a start where no pretrained one can be fetched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.data.render import Encoded, Renderer
from workers.families.base import Item
from workers.nn.net import pad_batch
from workers.nn.tiny import POSITIONS, tiny_causal_lm, tiny_tokenizer


def make_small_lm(
    folder: Path,
    items: Sequence[Item],
    *,
    width: int = 64,
    layers: int = 2,
    n_steps: int = 200,
    batch: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> list[float]:
    """Train on every token of the conversations, save model and tokenizer in `folder`; the loss of every step, in nats.

    Tied embeddings, plain rendering, 256 tokens of context. The folder is a backbone like any other.
    """
    tokenizer = tiny_tokenizer("tiny-causal")
    model = tiny_causal_lm(is_tied=True, seed=seed, width=width, layers=layers)
    encoded = Renderer(tokenizer, POSITIONS, "plain").encode([(item[0], item[1]) for item in items])
    losses = _train(model, encoded, n_steps=n_steps, batch=batch, learning_rate=learning_rate, seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return losses


def _train(
    model: Any, encoded: Sequence[Encoded], *, n_steps: int, batch: int, learning_rate: float, seed: int
) -> list[float]:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=n_steps)
    losses = []
    model.train()
    for _ in range(n_steps):
        chosen = [encoded[i] for i in rng.integers(len(encoded), size=batch)]
        ids, mask = pad_batch(chosen, 0, "right")
        labels = ids.masked_fill(mask == 0, -100)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses
