"""Linear layers of a backbone in 8 bits on a CPU: faster, and every reward moves a little. Opt-in, never a default."""

import warnings
from typing import Any

import torch
from torch import nn

from workers.errors import JobError

USE_ANOTHER = "Set scoring_dtype to float32 or bf16."


def quantise(net: Any) -> None:
    """Replace the linear layers of `net.backbone`, in place; the head stays as it is. JobError where that cannot be.

    Dynamic quantisation: weights are rounded once, to 8 bits a layer; activations at each call, by their own range.
    torch has announced the end of these kernels; a torch without them refuses, it does not fall back.
    """
    if torch.cuda.is_available():
        raise JobError("int8 scoring is for CPUs, and this machine scores on a GPU.", USE_ANOTHER)
    if not [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]:
        raise JobError("torch has no 8-bit kernels for this CPU.", USE_ANOTHER)
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise JobError(f"torch {torch.__version__} no longer quantises by itself.", USE_ANOTHER) from error
    if not any(isinstance(module, nn.Linear) for module in net.backbone.modules()):
        raise JobError("This backbone has no linear layers that could be quantised.", USE_ANOTHER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=DeprecationWarning)
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="torch.quantize_per", category=UserWarning)
        quantize_dynamic(net.backbone, {nn.Linear}, dtype=torch.qint8, inplace=True)  # type: ignore[no-untyped-call]


def is_quantised(net: Any) -> bool:
    return any(type(module).__module__.startswith("torch.ao.nn.quantized") for module in net.modules())
