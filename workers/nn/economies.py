"""Ways to train in less memory or time, as the spec of a run asks for them."""

from typing import Any

from workers.context import JobContext
from workers.errors import JobError
from workers.nn.adapters import add_adapters
from workers.nn.net import Net


def apply_economies(ctx: JobContext, net: Net, spec: Any) -> None:
    """Adapters, gradient checkpointing, compilation; each says in the log what it does."""
    if spec.lora_rank:
        n = add_adapters(net, rank=spec.lora_rank, alpha=spec.lora_alpha)
        ctx.log(f"LoRA of rank {spec.lora_rank}: {n:,} numbers of the backbone's layers are trained, and the head")
    if spec.gradient_checkpointing:
        if not getattr(net.backbone, "supports_gradient_checkpointing", False):
            raise JobError("This backbone cannot recompute its layers.", "Set gradient_checkpointing to no.")
        net.backbone.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        net.backbone.enable_input_require_grads()  # else nothing is recomputed where only adapters are trained
        ctx.log("Layers are computed again in the backward pass: less memory, about a third more time")
    if spec.compile:
        compile_backbone(ctx, net)


def compile_backbone(ctx: JobContext, net: Net) -> None:
    """torch.compile on a GPU. On a CPU it never paid: most backbones are read there without padding, by code that takes
    the layers one by one and is faster, and the others were as fast as before after minutes of compiling."""
    if net.device.type == "cpu":
        ctx.log("compile is left aside: it makes no training on a CPU faster. The run goes on without it", "warning")
        return
    net.backbone.compile(dynamic=True)
    ctx.log("The backbone is compiled at its first batches, which takes a while")
