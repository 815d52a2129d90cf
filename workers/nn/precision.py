"""Which precision is worth having on this machine, decided by trying it."""

import time

import torch

from workers.nn.reward_net import Dtype

WORTH_IT = 1.3
"""bf16 loses digits, so it has to be clearly faster."""


def choose_dtype(wanted: str) -> Dtype:
    """auto: bf16 on a GPU that has it, or on a CPU where a matrix product is clearly faster in it; else float32.

    CPUs without bf16 units compute it, but ten to a hundred times slower, so flags are not trusted.
    """
    if wanted != "auto":
        return "bf16" if wanted == "bf16" else "float32"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    exact, rough = _product_s(torch.float32), _product_s(torch.bfloat16)
    return "bf16" if rough * WORTH_IT < exact else "float32"


def _product_s(dtype: torch.dtype, size: int = 384) -> float:
    """Shortest of a few timings of one product, a few milliseconds each."""
    left = torch.ones(size, size, dtype=dtype)
    found = []
    for _ in range(4):
        start = time.perf_counter()
        left @ left
        found.append(time.perf_counter() - start)
    return min(found)
