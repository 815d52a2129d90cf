"""A reward that depends on a latent user: an encoder of labelled pairs, and a decoder of item and latent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workers.data.render import Encoded
from workers.nn.heads import Head
from workers.nn.joined import JoinedNet, split_texts

SLOPE = 0.2
Scale = Literal["raw", "comparable"]


@dataclass(frozen=True)
class Posterior:
    """q(z | context) = Normal(mu, diag exp(log_var)), both (n, latent)."""

    mu: Tensor
    log_var: Tensor

    def kl(self) -> Tensor:
        """KL to Normal(0, I) of each user, summed over the latent dimensions, in nats, shape (n,)."""
        return 0.5 * (self.mu.square() + self.log_var.exp() - self.log_var - 1).sum(dim=1)

    def entropy(self) -> Tensor:
        """In nats, shape (n,)."""
        return 0.5 * (self.log_var + math.log(2 * math.pi * math.e)).sum(dim=1)


class PairEncoder(nn.Module):
    """[chosen ; rejected] -> MLP, one self-attention layer over the pairs without positions, mean, mu and log_var."""

    def __init__(self, width: int, *, latent: int, hidden: int) -> None:
        super().__init__()
        self.pair = nn.Sequential(
            nn.Linear(2 * width, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, hidden), nn.LeakyReLU(SLOPE)
        )
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.mu, self.log_var = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, chosen: Tensor, rejected: Tensor, mask: Tensor) -> Posterior:
        """Features (n, N, width) of the pairs of n users; mask (n, N) is True for real pairs.

        A user without any pair has the prior: mu 0, variance 1. The order of the pairs does not matter.
        """
        pairs = self.pair(torch.cat([chosen, rejected], dim=2))
        weight = self.query(pairs) @ self.key(pairs).transpose(1, 2) / math.sqrt(pairs.shape[2])
        is_empty = ~mask.any(dim=1)
        seen = mask | is_empty[:, None]
        mixed = pairs + torch.softmax(weight.masked_fill(~seen[:, None, :], -torch.inf), dim=2) @ self.value(pairs)
        mean = (mixed * seen[:, :, None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
        mu, log_var = self.mu(mean), self.log_var(mean).clamp(-8, 8)
        empty = is_empty[:, None]
        return Posterior(mu.masked_fill(empty, 0.0), log_var.masked_fill(empty, 0.0))


class LatentUserHead(Head):
    """Reward r(item, z) = MLP([item ; z]). Without a user's context z is the prior's mean, and `parts` says so.

    The prompt vectors of this head are users: (n, latent + 1), mu and the number of pairs it rests on. Outputs (n, 3):
    r(s, z); r~(s, z), the mean over reference responses s' of P(s > s' | z), nan before there are any; that number.
    """

    references: Tensor
    n_set: Tensor

    def __init__(
        self, width: int, *, latent: int = 32, hidden: int = 256, n_references: int = 256, scale: Scale = "raw"
    ) -> None:
        super().__init__()
        self.latent, self.scale = latent, scale
        self.encoder = PairEncoder(width, latent=latent, hidden=hidden)
        self.decoder = nn.Sequential(
            nn.Linear(width + latent, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1),
        )
        self.register_buffer("references", torch.zeros(n_references, width))
        self.register_buffer("n_set", torch.tensor(0))

    def rate(self, x: Tensor, z: Tensor) -> Tensor:
        """r(s, z) of shape (n,). Compare these for one z only: each user's scale and zero are their own."""
        found: Tensor = self.decoder(torch.cat([x, z], dim=1))
        return found.squeeze(1)

    def comparable(self, raw: Tensor, z: Tensor) -> Tensor:
        """r~(s, z) in [0, 1], shape (n,), from r(s, z): the chance to beat a reference response, for that user."""
        n = int(self.n_set)
        if not n:
            return torch.full_like(raw, torch.nan)
        users, which = torch.unique(z, dim=0, return_inverse=True)
        bar = torch.stack([self.rate(self.references[:n], user.expand(n, -1)) for user in users])
        return torch.sigmoid(raw[:, None] - bar[which]).mean(dim=1)

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        users = x.new_zeros(len(x), self.latent + 1) if prompt is None else prompt
        z, count = users[:, : self.latent], users[:, self.latent]
        raw = self.rate(x, z)
        # In training nobody asks for r~, which costs a pass over all references.
        comparable = torch.full_like(raw, torch.nan) if self.training else self.comparable(raw, z)
        return torch.stack([raw, comparable, count], dim=1)

    def reward(self, outputs: Tensor) -> Tensor:
        if self.scale == "raw":
            return outputs[:, 0]
        return torch.where(outputs[:, 1].isnan(), outputs[:, 0], outputs[:, 1])

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        told = outputs.detach().double().cpu().tolist()
        return [
            {
                "raw": raw,
                "comparable": None if math.isnan(comparable) else comparable,
                "n_context": int(count),
                "label": "personalised" if count else "not personalised: mean of all users",
            }
            for raw, comparable, count in told
        ]

    @torch.no_grad()
    def set_references(self, vectors: Tensor) -> None:
        """What rewards are compared with from now on; as many as there is room for."""
        n = min(len(vectors), len(self.references))
        self.references.zero_()
        self.references[:n] = vectors[:n]
        self.n_set.fill_(n)


class LatentUserNet(JoinedNet):
    """Reads the item and, where it brings a context, the chosen and rejected responses of that user's pairs."""

    head: LatentUserHead

    def features(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor | None]:
        split = [split_texts(item) for item in batch]
        vectors = self.vectors([own for own, _ in split] + [text for _, others in split for text in others])
        own, rest = vectors[: len(batch)], vectors[len(batch) :]
        counts = torch.tensor([len(others) // 2 for _, others in split], device=self.device)
        if not int(counts.sum()):
            return own, None
        mask = torch.arange(int(counts.max()), device=self.device)[None] < counts[:, None]
        chosen = own.new_zeros(*mask.shape, own.shape[1])
        rejected = torch.zeros_like(chosen)
        chosen[mask], rejected[mask] = rest[0::2], rest[1::2]
        with torch.autocast(self.device.type, enabled=False):
            mu = self.head.encoder(chosen.float(), rejected.float(), mask).mu
        return own, torch.cat([mu, counts[:, None].float()], dim=1)
