"""Which few pairs to ask a new user, so that the answers tell most of who that is."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from math import comb
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from workers.nn.latent_user import LatentUserHead, Posterior

MOST_ANSWERS = 50
How = Literal["answers", "posterior"]
READ_AT_ONCE = 4096


@dataclass(frozen=True)
class Queries:
    """Numbers of the pairs to ask; information in nats between their answers and z; how many sets were compared."""

    pairs: list[int]
    information: float
    n_sets: int


def choose_queries(
    head: LatentUserHead,
    a: Tensor,
    b: Tensor,
    n_queries: int,
    *,
    rng: np.random.Generator,
    n_sets: int = 200,
    users: Tensor | None = None,
    how: How = "answers",
) -> Queries:
    """The set of `n_queries` pairs of a pool with the most information about the user.

    a, b: features (n, width) of both responses of each pair of the pool. Every set is looked at where there are no
    more than `n_sets`, else so many at random. users: latents (u, latent) that stand for the people to come, such as
    posterior means of those known; without them z is drawn from Normal(0, I). how: which side of I(y; z) is computed.
    """
    if not 1 <= n_queries <= len(a):
        raise ValueError(f"{n_queries} pairs cannot be chosen from a pool of {len(a)}")
    z = users if users is not None else torch.from_numpy(rng.normal(size=(128, head.latent))).to(a)
    sets = _sets(len(a), n_queries, n_sets, rng)
    with torch.inference_mode():
        margins = answer_margins(head, a, b, z)
        if how == "answers":
            gains = answer_information(sets, margins, rng=rng)
        else:
            gains = posterior_information(head, a, b, sets, margins, rng=rng)
    best = int(gains.argmax())
    return Queries(sets[best].tolist(), float(gains[best]), len(sets))


def _sets(n: int, size: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if comb(n, size) <= most:
        return np.array(list(combinations(range(n), size)), dtype=np.int64)
    return np.stack([np.sort(rng.choice(n, size=size, replace=False)) for _ in range(most)])


def _blocks(sets: NDArray[np.int64]) -> Iterator[Tensor]:
    """The sets in blocks small enough to be read at once."""
    size = sets.shape[1]
    n = max(1, READ_AT_ONCE // (min(2**size, MOST_ANSWERS) * size))
    for start in range(0, len(sets), n):
        yield torch.from_numpy(sets[start : start + n])


def answer_margins(head: LatentUserHead, a: Tensor, b: Tensor, z: Tensor) -> Tensor:
    """r(a, z) - r(b, z) of every pair for every user, shape (u, n)."""
    return torch.stack([head.rate(a, user.expand(len(a), -1)) - head.rate(b, user.expand(len(a), -1)) for user in z])


def posterior_information(
    head: LatentUserHead,
    a: Tensor,
    b: Tensor,
    sets: NDArray[np.int64],
    margins: Tensor,
    *,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """I(y_Q; z) = H(z) - E_y H(q(z | Q, y)) in nats of each set of `sets` (s, m), shape (s,).

    The expectation is over all answers, weighed by their probability over the users behind `margins`, or over 50 drawn
    from these users where there are more. Compare sets of one size only: the encoder's mean over pairs keeps its
    variance from shrinking as pairs are added. H(z) is that of an empty context, the prior.
    """
    size = sets.shape[1]
    told = []
    for index in _blocks(sets):
        answers = _answers(margins[:, index], size, rng)
        log_p = logsigmoid(margins[:, index][:, :, None] * answers[None]).sum(dim=3)
        log_weight = torch.logsumexp(log_p, dim=0)
        weight = torch.softmax(log_weight if 2**size <= MOST_ANSWERS else torch.zeros_like(log_weight), dim=1)
        found = _posteriors(head, a[index], b[index], answers)
        prior = Posterior(torch.zeros(1, head.latent), torch.zeros(1, head.latent)).entropy()
        told.append(prior - (weight * found.entropy().view(weight.shape)).sum(dim=1))
    return torch.cat(told).double().numpy()


def answer_information(sets: NDArray[np.int64], margins: Tensor, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same I(y_Q; z) from the decoder's side, H(y_Q) - E_z H(y_Q | z) in nats, shape (s,).

    It needs no calibrated posterior variance; `margins` (u, n) are those of users that stand for the people to come.
    """
    size = sets.shape[1]
    told = []
    for index in _blocks(sets):
        own = margins[:, index]
        answers = _answers(own, size, rng)
        log_p = logsigmoid(own[:, :, None] * answers[None]).sum(dim=3)
        log_mean = torch.logsumexp(log_p, dim=0) - np.log(len(margins))
        is_whole = 2**size <= MOST_ANSWERS
        entropy = -(log_mean.exp() * log_mean).sum(dim=1) if is_whole else -log_mean.mean(dim=1)
        noise = -(torch.sigmoid(own) * logsigmoid(own) + torch.sigmoid(-own) * logsigmoid(-own))
        told.append(entropy - noise.sum(dim=2).mean(dim=0))
    return torch.cat(told).double().numpy()


def _answers(margins: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Answer vectors of +1 (a) and -1 (b), shape (s, answers, m): all of them, or some drawn from the model."""
    n_users, n_sets = margins.shape[:2]
    if 2**size <= MOST_ANSWERS:
        every = torch.tensor(list(product((1.0, -1.0), repeat=size)))
        return every.expand(n_sets, -1, -1)
    who = rng.integers(n_users, size=MOST_ANSWERS)
    draw = torch.from_numpy(rng.random((MOST_ANSWERS, n_sets, size)))
    said = torch.where(draw < torch.sigmoid(margins[who].double()), 1.0, -1.0)
    return said.transpose(0, 1).float()


def _posteriors(head: LatentUserHead, a: Tensor, b: Tensor, answers: Tensor) -> Posterior:
    """q(z | Q, y) of every set and answer, in rows of sets by answers; a, b (s, m, width), answers (s, y, m)."""
    is_a = (answers > 0)[..., None]
    chosen = torch.where(is_a, a[:, None], b[:, None]).flatten(0, 1)
    rejected = torch.where(is_a, b[:, None], a[:, None]).flatten(0, 1)
    found: Posterior = head.encoder(chosen, rejected, torch.ones(chosen.shape[:2], dtype=torch.bool))
    return found
