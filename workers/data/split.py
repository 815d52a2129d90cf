"""Train and validation parts that share no prompt."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def split_by_prompt(
    prompt_keys: Sequence[str], *, validation_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the training and of the validation rows.

    A prompt's side follows from a hash of the seed and its key alone, so it stays where it is when rows are added or
    come in another order. Something is always left to train on; with two prompts or more and a share above 0 something
    is held out too. The prompt whose hash is nearest to the border changes sides if need be.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(f"validation_share must be in [0, 1), not {validation_share}")
    keys = np.array([_uniform(key, seed) for key in prompt_keys], dtype=np.float64)
    held_out = keys < validation_share
    if len(keys) and held_out.all():
        held_out = keys < keys.max()
    elif validation_share > 0 and not held_out.any() and len(np.unique(keys)) > 1:
        held_out = keys == keys.min()
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def keep_share(prompt_keys: Sequence[str], rows: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.int64]:
    """The part of `rows` whose prompts fall into the share; of two shares the smaller lies within the larger.

    One prompt at least is kept.
    """
    if share >= 1 or not len(rows):
        return rows
    places = np.array([_uniform(prompt_keys[row], seed + 2**33) for row in rows], dtype=np.float64)
    return rows[places < max(share, np.nextafter(places.min(), 1))]


def _uniform(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
