"""A reward model: a backbone of transformers, one vector of its last hidden states, and linear layers on that vector.

This file lies beside the weights because no class of transformers computes the same rewards. It needs torch and
transformers alone, reads no other file and asks no network. It is run when the folder is opened by

    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)

and the model then gives logits of shape (texts, labels): the reward, or ratings that the model card says how to weigh.

Written by Steelyard. SPDX-License-Identifier: Apache-2.0 (this file; the weights have a licence of their own).
"""
# mypy: allow-untyped-calls

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

ACTIVATIONS = {"none": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class PooledRewardConfig(PretrainedConfig):
    """What the model is made of.

    backbone_config: settings of a model of transformers, its model_type among them; pooling: mean, first or last, the
    real tokens that the vector is made of; head_sizes: numbers into the first linear layer and out of each;
    head_activation: a name of ACTIVATIONS, between the layers and never after the last.
    """

    model_type = "steelyard_pooled_reward"

    def __init__(
        self,
        backbone_config: Mapping[str, Any] | None = None,
        pooling: str = "mean",
        head_sizes: Sequence[int] = (),
        head_activation: str = "none",
        **others: Any,
    ) -> None:
        self.backbone_config = dict(backbone_config or {})
        self.pooling = pooling
        self.head_sizes = list(head_sizes)
        self.head_activation = head_activation
        super().__init__(**others)


class PooledRewardForSequenceClassification(PreTrainedModel):
    """Logits of texts. Padding may stand on either side: the mask says what is real, and nothing else is read."""

    config_class = PooledRewardConfig
    base_model_prefix = "backbone"
    _keep_in_fp32_modules_strict = ["head"]

    def __init__(self, config: PooledRewardConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone: Any = AutoModel.from_config(AutoConfig.for_model(**config.backbone_config))
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None
        self.head = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(config.head_sizes))
        self.activation = ACTIVATIONS[config.head_activation]()
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Logits (texts, labels). Without a mask every token is real; token types are not read."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        # Padding goes to the right, whatever side it came on: some backbones count positions from the left.
        order = mask.argsort(dim=1, descending=True, stable=True)
        ids, mask = input_ids.gather(1, order), mask.gather(1, order)
        hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        layers: list[Any] = list(self.head)
        x = self.pooled(hidden, mask).to(layers[0].weight.dtype)
        for layer in layers[:-1]:
            x = self.activation(layer(x))
        return SequenceClassifierOutput(logits=layers[-1](x))

    def pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """One vector (texts, width) of hidden states (texts, tokens, width), real tokens first."""
        if self.config.pooling == "first":
            return hidden[:, 0]
        if self.config.pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
        if self.config.pooling != "mean":
            raise ValueError(f"pooling is mean, first or last, not {self.config.pooling!r}")
        return (hidden.float() * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
