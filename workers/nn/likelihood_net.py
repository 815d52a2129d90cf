"""A causal language model whose reward is the log-likelihood of the response, with or without a reference model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from workers.data.render import Encoded
from workers.nn.backbone import Backbone
from workers.nn.causal_lm import language_head, token_logits, with_lm_head
from workers.nn.heads import Head
from workers.nn.net import Dtype, Net, no_tick, pad_batch, set_dropout, tick_in_layers
from workers.nn.packed_causal import PackedCausal, is_packable_causal

Side = Literal["left", "right"]
LOGITS_AT_ONCE = 2**24
"""Logits (tokens times vocabulary) in memory at once: 64 MiB in float32."""


class LikelihoodHead(Head):
    """No weights: sums what the language model says of each token.

    Outputs are rewards (n,), or, where a tokenizer is given, (n, longest, 2): reward and id of every response token,
    nan beyond the end of a response.
    """

    def __init__(self, tokenizer: Any = None) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        return x

    def reward(self, outputs: Tensor) -> Tensor:
        return outputs if outputs.ndim == 1 else outputs[..., 0].nansum(dim=1)

    def parts(self, outputs: Tensor) -> list[dict[str, Any]] | None:
        """{"tokens": [{"text", "reward"}]} an item, where tokens were asked for."""
        if outputs.ndim == 1:
            return None
        return [{"tokens": self._tokens(row[~row[:, 0].isnan()])} for row in outputs.detach().cpu()]

    def _tokens(self, row: Tensor) -> list[dict[str, Any]]:
        texts = token_texts(self.tokenizer, [int(number) for number in row[:, 1]])
        return [{"text": text, "reward": float(value)} for text, value in zip(texts, row[:, 0], strict=True)]


class LikelihoodNet(Net):
    """reward = beta * sum over response tokens, the end token included, of log pi - log pi_ref (0 without reference).

    The reference is a model like the backbone that is never trained: without gradient, without dropout.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        reference: Any = None,
        beta: float = 1.0,
        per_token: bool = False,
        dropout: float = 0.0,
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__(pad_id=int(backbone.tokenizer.pad_token_id or 0), dtype=dtype)
        self.backbone = with_lm_head(backbone).model
        self.head = LikelihoodHead(backbone.tokenizer if per_token else None)
        self.beta, self.per_token = beta, per_token
        self.reference: Any = reference
        self.reference_is_start = False
        """Does the reference follow the weights that training starts from?"""
        set_dropout(self.backbone, dropout)
        if reference is not None:
            set_dropout(reference, 0.0)
            reference.requires_grad_(False)
        tick_in_layers(self)

    def train(self, mode: bool = True) -> "LikelihoodNet":
        super().train(mode)
        if self.reference is not None:
            self.reference.eval()
        return self

    def renew_reference(self) -> None:
        """Make the backbone as it is now the reference."""
        self.reference.load_state_dict(self.backbone.state_dict())

    def is_its_reference(self) -> bool:
        """Is every weight that of the reference? Then every reward is 0."""
        if self.reference is None:
            return False
        own, other = self.backbone.state_dict(), self.reference.state_dict()
        return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)

    def is_packed(self) -> bool:
        return self.shares_prompts()

    def shares_prompts(self) -> bool:
        return not self.is_sharded and self.device.type == "cpu" and is_packable_causal(self.backbone)

    def models(self) -> list[nn.Module]:
        return [self.backbone] if self.reference is None else [self.backbone, self.reference]

    def read_directly(self) -> list[nn.Module]:
        return [language_head(model) for model in self.models()]

    def forward(self, batch: Sequence[Encoded]) -> Tensor:
        """Rewards (n,) of one batch in one pass; with `per_token` those of every token, as the head says."""
        values = self.token_rewards(batch)
        if not self.per_token:
            return torch.stack([part.sum() for part in values])
        ids = [torch.from_numpy(item.ids[len(item) - item.n_response :]).to(self.device) for item in batch]
        rows = [torch.stack([part, row.float()], dim=1) for part, row in zip(values, ids, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float("nan"))

    def token_rewards(self, batch: Sequence[Encoded], side: Side = "right") -> list[Tensor]:
        """Reward of every response token: one float32 tensor (n_response,) an item."""
        with self.precision():
            own = self.log_probs(self.backbone, batch, side)
        if self.reference is None:
            return [self.beta * part for part in own]
        with torch.no_grad(), self.precision():
            other = self.log_probs(self.reference, batch, side)
        return [self.beta * (part - known) for part, known in zip(own, other, strict=True)]

    def log_probs(self, model: Any, batch: Sequence[Encoded], side: Side = "right") -> list[Tensor]:
        """Those of the response tokens, float32 (n_response,) an item, under one of the net's models.

        Always padded where the net lies in parts: what puts a layer together waits for a call of that layer.
        """
        return token_log_probs(model, batch, self.pad_id, side, self.tick, is_padded=self.is_sharded)


def token_log_probs(
    model: Any,
    batch: Sequence[Encoded],
    pad_id: int,
    side: Side = "right",
    tick: Callable[[], None] = no_tick,
    *,
    is_padded: bool = False,
) -> list[Tensor]:
    """log pi(token | everything before it) of the response tokens, float32 (n_response,) an item.

    Logits are computed for these tokens alone, and on a CPU a shared prompt's states once, unless `is_padded`.
    """
    if any(item.n_response >= len(item) for item in batch):
        raise ValueError("a response needs a token before it: the first has no likelihood otherwise")
    device = next(model.parameters()).device
    if side == "right" and device.type == "cpu" and not is_padded and is_packable_causal(model):
        states, targets = _packed_states(model, batch, tick)
    else:
        states, targets = _padded_states(model, batch, pad_id, side)
    with torch.autocast(device.type, enabled=False):
        found = _picked_log_probs(model, states, targets)
    return list(torch.split(found, [item.n_response for item in batch]))


def _packed_states(model: Any, batch: Sequence[Encoded], tick: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """States (n, width) just before every response token, and these tokens (n,)."""
    whole = PackedCausal(model).states(batch, tick)
    states = [own[len(own) - item.n_response - 1 : -1] for own, item in zip(whole, batch, strict=True)]
    tokens = [torch.from_numpy(item.ids[len(item) - item.n_response :]).long() for item in batch]
    return torch.cat(states), torch.cat(tokens)


def _padded_states(model: Any, batch: Sequence[Encoded], pad_id: int, side: Side) -> tuple[Tensor, Tensor]:
    """The same through the model's own forward.

    With padding on the right no mask is needed: a causal model's tokens never see what comes after them.
    """
    ids, mask = pad_batch(batch, pad_id, side)
    device = next(model.parameters()).device
    inputs: dict[str, Any] = {"input_ids": ids.to(device), "use_cache": False}
    if side == "left":
        inputs["attention_mask"] = mask.to(device)
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0).to(device)
    hidden = model(**inputs).last_hidden_state
    places = torch.cat([_places(item, row, ids.shape[1], side) for row, item in enumerate(batch)])
    targets = ids.flatten()[places].to(device)
    return hidden.flatten(0, 1)[(places - 1).to(device)], targets


def _places(item: Encoded, row: int, width: int, side: Side) -> Tensor:
    """Positions of the response tokens in the flattened batch."""
    end = row * width + (len(item) if side == "right" else width)
    return torch.arange(end - item.n_response, end)


def _picked_log_probs(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of the targets (n,), over chunks of tokens so that a large vocabulary fits into memory."""

    def picked(part: Tensor, wanted: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(token_logits(model, part), wanted, reduction="none")

    size = max(1, LOGITS_AT_ONCE // model.get_input_embeddings().num_embeddings)
    chunks = list(zip(torch.split(states, size), torch.split(targets, size), strict=True))
    if len(chunks) == 1 or not torch.is_grad_enabled():
        return torch.cat([picked(*chunk) for chunk in chunks])
    return torch.cat([checkpoint(picked, *chunk, use_reentrant=False) for chunk in chunks])


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token; where several tokens make one character, the last of them has it.

    Joined they are the decoded whole. Decoding a token by itself would lose spaces and break characters.
    """
    texts: list[str] = []
    start, read = 0, 0
    for end in range(1, len(ids) + 1):
        known, whole = (_decoded(tokenizer, ids[start:stop]) for stop in (read, end))
        if whole.endswith("\ufffd") and end < len(ids):
            texts.append("")
            continue
        texts.append(whole[len(known) :])
        start, read = read, end
    return texts


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
