"""Linear reward heads with a router on the prompt, and the likelihood of a pair under their mixture."""

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import log_softmax, logsigmoid
from torch.nn.utils import parameters_to_vector

from workers.data.render import Encoded
from workers.nn.heads import Head
from workers.nn.joined import JoinedNet, join_texts, split_texts
from workers.nn.reward_net import prompt_of

NO_CONTEXT, UNKNOWN, KNOWN, OWN_PAIRS = 0.0, 1.0, 2.0, 3.0
LABELS = {
    NO_CONTEXT: "no context",
    UNKNOWN: "not personalised",
    KNOWN: "personalised",
    OWN_PAIRS: "personalised by own pairs",
}
BY_PAIRS = -1.0
"""Stands where the code of a context would: this item brings labelled pairs of whoever asks."""
CODES = 2**24
"""float32 holds whole numbers below this exactly. Two contexts share a code with probability 6e-8."""


def new_router(width: int, hidden: int, n_heads: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, n_heads))


class MixtureHead(Head):
    """K rewards w_k . h + b_k and router weights softmax(MLP(prompt)).

    The prompt's vector is (n, prompt_width), or (n, 2 prompt_width + 1): of the prompt, of context and prompt, and the
    code of the context (0: none). `router` serves the first, `context_router` the second where the code is known.
    Where items bring pairs, K log weights made of them stand before the code, and serve where it is BY_PAIRS.
    Outputs (n, 2K + 1): rewards, log weights, and what gave them (NO_CONTEXT, UNKNOWN, KNOWN, OWN_PAIRS).
    """

    needs_prompt = True
    known_contexts: Tensor
    anchor: Tensor
    anchor_epoch: Tensor
    stage: Tensor

    def __init__(
        self,
        width: int,
        *,
        n_heads: int,
        router_width: int = 128,
        prompt_width: int | None = None,
        max_contexts: int = 256,
    ) -> None:
        super().__init__()
        self.n_heads, self.prompt_width = n_heads, prompt_width or width
        self.heads = nn.Linear(width, n_heads)
        nn.init.zeros_(self.heads.bias)
        self.router = new_router(self.prompt_width, router_width, n_heads)
        self.context_router = new_router(self.prompt_width, router_width, n_heads)
        self.register_buffer("known_contexts", torch.zeros(max_contexts))
        self.register_buffer("anchor", torch.zeros_like(parameters_to_vector(self.context_router.parameters())))
        self.register_buffer("anchor_epoch", torch.tensor(-1))
        self.register_buffer("stage", torch.tensor(0))
        self.end_stage_one()
        self.stage.zero_()

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        if prompt is None:
            raise ValueError("a mixture reads the prompt apart from the response")
        rewards = self.heads(x)
        plain, contextual, code = self.split(prompt)
        log_f = log_softmax(self.router(plain), dim=1)
        state = torch.full_like(code, NO_CONTEXT)
        if contextual is not None and bool((code > 0).any()):
            is_known = (code > 0) & torch.isin(code, self.known_contexts)
            routed = self.context_log_weights(contextual)
            log_f = torch.where(is_known[:, None], routed, log_f)
            state = torch.where(code > 0, torch.where(is_known, KNOWN, UNKNOWN), state)
        if bool((code == BY_PAIRS).any()):
            own = prompt[:, 2 * self.prompt_width : -1]
            log_f = torch.where(code[:, None] == BY_PAIRS, own, log_f)
            state = torch.where(code == BY_PAIRS, OWN_PAIRS, state)
        return torch.cat([rewards, log_f, state[:, None]], dim=1)

    def split(self, prompt: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Vectors of the prompt and of context with prompt, and the contexts' codes of shape (n,)."""
        width = self.prompt_width
        if prompt.shape[1] == width:
            return prompt, None, prompt.new_zeros(len(prompt))
        return prompt[:, :width], prompt[:, width : 2 * width], prompt[:, -1]

    def rewards_of(self, outputs: Tensor) -> Tensor:
        return outputs[:, : self.n_heads]

    def log_weights_of(self, outputs: Tensor) -> Tensor:
        return outputs[:, self.n_heads : 2 * self.n_heads]

    def reward(self, outputs: Tensor) -> Tensor:
        return (self.rewards_of(outputs) * self.log_weights_of(outputs).exp()).sum(dim=1)

    def parts(self, outputs: Tensor) -> list[dict[str, Any]]:
        names = [f"head {k + 1}" for k in range(self.n_heads)]
        told = outputs.detach().double().cpu()
        rewards, weights = self.rewards_of(told).tolist(), self.log_weights_of(told).exp().tolist()
        return [
            {
                "heads": dict(zip(names, r, strict=True)),
                "router": dict(zip(names, f, strict=True)),
                "label": LABELS[state],
            }
            for r, f, state in zip(rewards, weights, told[:, -1].tolist(), strict=True)
        ]

    def log_weights_by_pairs(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        """log w_k, shape (K,), from vectors (m, width) of one person's pairs: w_k ~ exp(-sum of losses of head k)."""
        losses = -logsigmoid(self.heads(chosen) - self.heads(rejected))
        return log_softmax(-losses.sum(dim=0), dim=0)

    @torch.no_grad()
    def end_stage_one(self) -> None:
        """Heads and router are trained: contexts start from this router, and none is known yet."""
        self.context_router.load_state_dict(self.router.state_dict())
        self.known_contexts.zero_()
        self.anchor_epoch.fill_(-1)
        self.stage.fill_(1)

    @torch.no_grad()
    def anchor_at(self, epoch: int) -> None:
        """Keep the context router as it is when `epoch` begins. A buffer, so that a resumed run still knows it."""
        if int(self.anchor_epoch) != epoch:
            self.anchor.copy_(parameters_to_vector(self.context_router.parameters()))
            self.anchor_epoch.fill_(epoch)

    def context_log_weights(self, contextual: Tensor) -> Tensor:
        return log_softmax(self.context_router(contextual), dim=1)

    def anchored_log_weights(self, contextual: Tensor) -> Tensor:
        """Log weights, shape (n, K), of the router as the epoch began."""
        found, start = {}, 0
        for name, parameter in self.context_router.named_parameters():
            found[name] = self.anchor[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        with torch.no_grad():
            return log_softmax(functional_call(self.context_router, found, (contextual,)), dim=1)


class MixtureNet(JoinedNet):
    """Reads the response's text, its prompt alone, and what an item brings: a context with the prompt, or pairs."""

    head: MixtureHead

    def features(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        split = [split_texts(item) for item in batch]
        prompts = [prompt_of(own) for own, _ in split]
        by_pairs = {i: others[1:] for i, (_, others) in enumerate(split) if has_pairs(others)}
        said = [others if others and i not in by_pairs else [] for i, (_, others) in enumerate(split)]
        contextual = [others[1] if others else prompt for others, prompt in zip(said, prompts, strict=True)]
        texts = [*(own for own, _ in split), *prompts, *contextual]
        vectors = self.vectors([*texts, *(text for pairs in by_pairs.values() for text in pairs)])
        x, plain, routed = vectors[: len(texts)].chunk(3)
        codes = [context_code(others[0]) if others else 0 for others in said]
        code = torch.tensor(codes, dtype=torch.float32, device=self.device)
        code[list(by_pairs)] = BY_PAIRS
        parts = [plain, routed, code[:, None]]
        if by_pairs:
            weights = self._weights([len(pairs) for pairs in by_pairs.values()], vectors[len(texts) :])
            own = plain.new_zeros(len(batch), self.head.n_heads)
            own[list(by_pairs)] = weights.to(own.dtype)
            parts.insert(2, own)
        return x, torch.cat(parts, dim=1)

    def _weights(self, counts: list[int], vectors: Tensor) -> Tensor:
        """Log weights (people, K) from the vectors of their texts, chosen and rejected in turn."""
        with torch.autocast(self.device.type, enabled=False):
            texts = torch.split(vectors.float(), counts)
            return torch.stack([self.head.log_weights_by_pairs(own[0::2], own[1::2]) for own in texts])


def join_pairs(own: Encoded, texts: Sequence[Encoded]) -> Encoded:
    """An item and the texts of a person's pairs, chosen and rejected in turn; an empty text first says so."""
    return join_texts(own, [Encoded(ids=own.ids[:0], n_response=0), *texts])


def has_pairs(others: Sequence[Encoded]) -> bool:
    return bool(others) and not len(others[0])


def context_code(context: Encoded) -> int:
    """A whole number in 1..2^24 - 1 that stands for the context's text."""
    return 1 + zlib.crc32(context.ids.tobytes()) % (CODES - 1)


def mean_log_weights(log_a: Tensor, log_b: Tensor) -> Tensor:
    """One router for a pair. Both sides read the same prompt, unless a long response shortened it on its side."""
    return torch.logaddexp(log_a, log_b) - torch.log(torch.tensor(2.0))


def mixture_log_likelihood(log_f: Tensor, margins: Tensor) -> Tensor:
    """log sum_k f_k sigmoid(D_k), shape (n,), from log f and D of shape (n, K)."""
    return torch.logsumexp(log_f + logsigmoid(margins), dim=1)


def hedge_targets(log_f: Tensor, losses: Tensor, tau: float) -> Tensor:
    """w_ik proportional to f_ik exp(-L_ik / tau), normalised over k: shape (n, K), float64.

    The minimiser of sum_k w_k L_k + tau KL(w || f). The least loss of an item is subtracted first: with tau 1e-4 every
    exp would be 0 otherwise.
    """
    losses = losses.double()
    excess = losses - losses.min(dim=1, keepdim=True).values
    return torch.softmax(log_f.double() - excess / tau, dim=1)
