"""Labels of steps without people: continue from a prefix many times and see how often the answer comes out right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

Prefix = TypeVar("Prefix")
Completion = TypeVar("Completion")


def rollout_labels(
    prefixes: Sequence[Prefix],
    complete: Callable[[Prefix, int], Sequence[Completion]],
    is_right: Callable[[Completion], bool],
    *,
    n: int = 8,
    how: Literal["hard", "soft"] = "hard",
) -> list[float]:
    """A label for the step that ends each prefix of one solution.

    Parameters
    ----------
    prefixes
        The solution after its 1st, 2nd, ... step. The last one is the whole solution.
    complete
        n continuations of a prefix to the end, sampled independently.
    is_right
        Does a continuation reach the right answer?
    how
        hard: 1 when any continuation does, else 0; soft: the share that does.

    Returns
    -------
    list of float
        In [0, 1], one a prefix.

    Raises
    ------
    ValueError
        n < 1, or `complete` gives another number of continuations.

    Notes
    -----
    The automatic labels of Wang et al. 2024 (Math-Shepherd, arXiv 2312.08935), as Gao et al. 2024 (arXiv 2410.15115)
    train their process reward models. A hard label forgives a wrong step that a continuation repairs by luck, the more
    so the larger n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    labels = []
    for prefix in prefixes:
        ends = complete(prefix, n)
        if len(ends) != n:
            raise ValueError(f"asked for {n} continuations, got {len(ends)}")
        n_right = sum(is_right(end) for end in ends)
        labels.append(float(n_right > 0) if how == "hard" else n_right / n)
    return labels
