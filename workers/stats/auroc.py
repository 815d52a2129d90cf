"""Area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, an equal score counting half.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Finite, on any scale.
    is_positive : ndarray of shape (n,)

    Returns
    -------
    float
        In [0, 1]; nan where one of the two kinds is missing.

    Notes
    -----
    The Mann-Whitney statistic from mid-ranks (Hanley and McNeil 1982, Radiology 143(1)). Tested against all pairs.
    """
    n_positive = int(is_positive.sum())
    n_negative = len(scores) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    above = float(middle[place][is_positive].sum()) - n_positive * (n_positive + 1) / 2
    return above / (n_positive * n_negative)
