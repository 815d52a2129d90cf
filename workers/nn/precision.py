"""Which precision is worth having on this machine, decided by trying it once and remembered.

Timings differ from try to try, and a run that is repeated, resumed or shared by several processes has to come out the
same: the first answer stands for this CPU and this torch until the file is removed.
"""

import json
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from workers.environment import cpu_name
from workers.nn.reward_net import Dtype
from workers.tuning import cache_folder

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
    return _of_this_cpu(cache_folder())


@cache
def _of_this_cpu(folder: Path) -> Dtype:
    """What the first process found here. A folder that cannot be written only means that each process tries itself."""
    key = f"{cpu_name()} | torch {torch.__version__}"
    place = folder / "precision" / f"{_safe(key)}.json"
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            draft = place.with_name(f"{place.name}.{os.getpid()}.part")
            draft.write_text(json.dumps({"machine": key, **_trial()}) + "\n")
            with suppress(FileExistsError):  # another process was first: its answer counts
                os.link(draft, place)
            draft.unlink()
        with suppress(ValueError, KeyError):
            return "bf16" if json.loads(place.read_text())["dtype"] == "bf16" else "float32"
    return "bf16" if _trial()["dtype"] == "bf16" else "float32"


def _safe(key: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in key)


def _trial() -> dict[str, str | float]:
    exact, rough = _product_s(torch.float32), _product_s(torch.bfloat16)
    return {"dtype": "bf16" if rough * WORTH_IT < exact else "float32", "float32_s": exact, "bf16_s": rough}


def _product_s(dtype: torch.dtype, size: int = 384) -> float:
    """Shortest of some timings of one product, a few milliseconds each."""
    left = torch.ones(size, size, dtype=dtype)
    found = []
    for _ in range(12):
        start = time.perf_counter()
        left @ left
        found.append(time.perf_counter() - start)
    return min(found)
