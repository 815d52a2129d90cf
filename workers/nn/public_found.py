"""A public model as it was found, before it becomes one of ours, and what finding it in its many forms shares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workers.errors import JobError
from workers.nn.exported_reading import ExportedReading
from workers.nn.head_layouts import GATED_TENSORS, PUBLIC_HEADS, Layout


@dataclass(frozen=True)
class Found:
    """A model, its head apart, and `logits`: what its class gives for the ids of one text.

    Logits have shape (labels,), or (tokens, labels) where it `reads_tokens`.
    """

    name: str
    class_name: str
    base: Any
    tokenizer: Any
    head: Mapping[str, Tensor]
    labels: list[str]
    layout: Layout | None
    logits: Callable[[Tensor], Tensor]
    reads_tokens: bool = False
    is_gated: bool = False
    notes: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the family, where the model says them."""
    exported: ExportedReading | None = None
    needs_template: bool = False
    """Whether it says nothing of a text that is not rendered by its chat template."""
    on_armorm_scale: bool = True
    """Of a gate: whether its ratings are a fifth of those told, as ArmoRM's of HelpSteer are."""

    @property
    def commit(self) -> str | None:
        found: str | None = getattr(self.base.config, "_commit_hash", None)
        return found


def states_of(base: Any, ids: Tensor) -> Tensor:
    """Last hidden states (tokens, width) of one text, without padding."""
    with torch.inference_mode():
        found: Tensor = base.eval()(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).last_hidden_state
    return found[0].float()


def labels_of(config: Any, n: int) -> list[str]:
    """Names of n outputs, where the config has as many."""
    names = {int(i): str(label) for i, label in (getattr(config, "id2label", None) or {}).items()}
    return [names.get(i, f"LABEL_{i}") for i in range(n)]


def unknown_head(name: str, named: str, found: Mapping[str, Tensor], why: str = "") -> JobError:
    """Names the tensors with their shapes, and the layouts that are known."""
    shown = ", ".join(f"{n} {tuple(t.shape)}" for n, t in sorted(found.items())[:12]) or "none"
    known = "; ".join(" and ".join(head.layout.weights) for head in PUBLIC_HEADS)
    return JobError(
        f"The head of {name} ({named}) is laid out in a way that is not known here{f': {why}' if why else ''}. Its "
        f"tensors are {shown}.",
        f"Known are heads of a causal model with these tensors: {known}; and ArmoRM's {', '.join(GATED_TENSORS)}. "
        "Rename the tensors where the model computes the same, or score it through an endpoint or a score file.",
    )


def linear(x: Tensor, head: Mapping[str, Tensor], name: str) -> Tensor:
    return nn.functional.linear(x, head[f"{name}.weight"], head.get(f"{name}.bias"))
