"""A causal model to start from where none is at hand: a small one, trained here on the texts of the training rows."""

from pathlib import Path
from typing import Any

from bench.rest.rows import Row, Rows

N_STEPS, WIDTH, LAYERS = 150, 64, 2


def small_model(folder: Path, rows: Rows) -> str:
    """Train a byte-level language model on both responses of every row, so that it prefers neither; its folder."""
    from workers.nn.small_lm import make_small_lm

    folder.mkdir(parents=True)
    items: Any = [(row["prompt"], response) for row in rows for response in responses(row)]
    make_small_lm(folder, items, width=WIDTH, layers=LAYERS, n_steps=N_STEPS, batch=16)
    return str(folder)


def responses(row: Row) -> list[list[Row]]:
    return [row[side] for side in ("chosen", "rejected")]
