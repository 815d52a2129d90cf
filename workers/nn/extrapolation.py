"""Beyond the last stage of training: weights on the line from one checkpoint through a later one (ExPO)."""

from pathlib import Path

from safetensors.torch import save_file

from workers.errors import JobError
from workers.nn.checkpoints import load_weights


def extrapolate(earlier: Path, later: Path, factor: float, target: Path) -> int:
    """Write later + factor * (later - earlier) of every tensor; how many tensors.

    factor 0 gives `later` and -1 gives `earlier`, bit for bit. Zheng et al. 2024 (arXiv 2404.16792).
    """
    first, second = load_weights(earlier).tensors, load_weights(later).tensors
    odd = sorted(n for n in first.keys() | second.keys() if n not in first or n not in second)
    odd += sorted(n for n in first.keys() & second.keys() if first[n].shape != second[n].shape)
    if odd:
        raise JobError(
            f"The two checkpoints do not have the same weights: {odd[0]} differs.",
            "Choose two stages of one training, where the later started from the earlier.",
        )
    if factor == -1:
        found = dict(first)
    else:
        found = {
            n: t if factor == 0 or not t.is_floating_point() else t + factor * (t - first[n]) for n, t in second.items()
        }
    save_file({n: t.contiguous() for n, t in found.items()}, target)
    return len(found)
