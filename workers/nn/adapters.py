"""LoRA: train small matrices beside the backbone's linear layers, and fold them in when training has ended."""

from typing import Any

from torch import nn

from workers.errors import JobError
from workers.nn.net import Net


def add_adapters(net: Net, *, rank: int, alpha: int | None, dropout: float = 0.0) -> int:
    """Freeze the backbone and put adapters of this rank on all its linear layers; how many numbers are trained in them.

    The head stays trainable as it is: it is new, and small.
    """
    from peft import LoraConfig, inject_adapter_in_model

    chosen = LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=dropout, target_modules=_linear_names(net))
    inject_adapter_in_model(chosen, net.backbone)
    for name, parameter in net.backbone.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return sum(p.numel() for p in net.backbone.parameters() if p.requires_grad)


def fold_adapters(net: Net) -> None:
    """Add the adapters to the weights they stand beside and remove them: what is kept is an ordinary backbone."""
    for name, module in list(net.backbone.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "merge"):
            module.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            owner = net.backbone.get_submodule(parent) if parent else net.backbone
            setattr(owner, leaf, module.get_base_layer())
    net.backbone.requires_grad_(True)


def has_adapters(model: Any) -> bool:
    return any("lora_" in name for name, _ in model.named_parameters())


def _linear_names(net: Net) -> list[str]:
    head = net.backbone.get_output_embeddings() if hasattr(net.backbone, "get_output_embeddings") else None
    names = [n for n, m in net.backbone.named_modules() if isinstance(m, nn.Linear) and m is not head]
    if not names:
        raise JobError("This backbone has no linear layers that adapters could stand on.", "Set lora_rank to none.")
    return names
