"""Scoring throughput: responses a second, share of the machine's ceiling, and what each way does to the rewards.

    python -m bench.bench_scoring [--pairs 96] [--repeats 1] [--full]

The same MiniLM with the same head scores the same conversations: as rewardbench v1 does (dataset order, batches of
eight, chosen and rejected in two forwards, padded to the longest; with right and with left padding), in batches of
similar length, packed, and packed with one process a core. `largest_error` is against each response alone without
padding; the ceiling is the best matrix product of the model's own shapes on this machine.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import workers.nn  # noqa: F401 - sets how OpenMP waits, for every variant alike
from bench.conversations import forward_flops, make_pairs
from bench.machine import foreign_load, matmul_ceiling
from workers.context import CheckpointRef
from workers.data.schema import PreferencePair
from workers.environment import available_cpus, keep_freed_memory, peak_rss_mib
from workers.families import FAMILIES
from workers.parallel import parallel_scorer

Rewards = Any
BASELINE = "rewardbench v1 loop"


def make_checkpoint(folder: Path) -> CheckpointRef:
    """MiniLM with a random head, which makes near ties: the hardest case for exactness."""
    import torch

    from workers.nn.backbone import load_backbone
    from workers.nn.checkpoints import write_checkpoint

    family: Any = FAMILIES.get("scalar_head")
    config = family.Config()
    backbone = load_backbone(config.backbone)
    torch.manual_seed(0)
    net = family.net(config, backbone)
    torch.nn.init.normal_(net.head.weight, std=0.5)
    write_checkpoint(folder, net, backbone, {"format": 1})
    return CheckpointRef("bench", "scalar_head", config.model_dump(), folder)


def rewardbench_loop(scorer: Any, pairs: Sequence[PreferencePair], side: str) -> list[float]:
    import torch

    rewards = []
    with torch.no_grad():
        for start in range(0, len(pairs), 8):
            chunk = pairs[start : start + 8]
            both = []
            for responses in ([p.response_a for p in chunk], [p.response_b for p in chunk]):
                encoded = scorer.renderer.encode([(p.prompt, r) for p, r in zip(chunk, responses, strict=True)])
                both.append(_library_forward(scorer.net, encoded, side).tolist())
            rewards += [value for pair in zip(*both, strict=True) for value in pair]
    return rewards


def _library_forward(net: Any, encoded: Any, side: str) -> Any:
    """The padded forward as a script calls it: no position numbers, so left padding moves every token."""
    import torch

    from workers.nn.pooling import pool
    from workers.nn.reward_net import pad_batch

    ids, mask = pad_batch(encoded, net.pad_id, "left" if side == "left" else "right")
    hidden = net.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    return net.outputs_of(pool(hidden, mask, net.pooling, torch.zeros(len(ids))))


def by_length(scorer: Any, pairs: Sequence[PreferencePair]) -> list[float]:
    """What every architecture gets that cannot be packed."""
    import numpy as np
    import torch

    from workers.data.collate import length_batches

    encoded = scorer.renderer.encode(items_of(pairs))
    rewards = np.empty(len(encoded))
    with torch.inference_mode():
        for batch in length_batches([len(e) for e in encoded], 2048):
            rewards[batch] = scorer.net.outputs_of(scorer.net._padded([encoded[i] for i in batch])).numpy()
    return rewards.tolist()


def items_of(pairs: Sequence[PreferencePair]) -> list[Any]:
    return [(p.prompt, r) for p in pairs for r in (p.response_a, p.response_b)]


def alone(scorer: Any, pairs: Sequence[PreferencePair]) -> Rewards:
    """Each response in a batch of its own, with nothing padded: the truth."""
    import numpy as np
    import torch

    with torch.inference_mode():
        rewards = [scorer.net.outputs_of(scorer.net._padded([e])) for e in scorer.renderer.encode(items_of(pairs))]
    return np.array([float(r) for r in rewards])


def measure(n_pairs: int, repeats: int) -> None:
    import numpy as np

    pairs = make_pairs(n_pairs, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        reference = make_checkpoint(Path(folder) / "checkpoint")
        family: Any = FAMILIES.get("scalar_head")
        scorer = family.open(family.Config(), reference.path)
        lengths = [len(e) for e in scorer.renderer.encode(items_of(pairs))]
        truth, ceiling = alone(scorer, pairs), matmul_ceiling()
        show(n_responses=len(truth), mean_tokens=round(float(np.mean(lengths))), ceiling_gflops=round(ceiling, 1))
        with parallel_scorer(reference, available_cpus()) as many:
            many.score(items_of(pairs[:4]))  # start the children, which a large input pays once
            ways: dict[str, Callable[[], Rewards]] = {
                BASELINE: lambda: rewardbench_loop(scorer, pairs, "right"),
                f"{BASELINE}, left padding": lambda: rewardbench_loop(scorer, pairs, "left"),
                "by length": lambda: by_length(scorer, pairs),
                "packed": lambda: scorer.score(items_of(pairs)).values,
                f"packed, {available_cpus()} processes": lambda: many.score(items_of(pairs)).values,
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            found = {}
            for round_number in range(repeats):
                for name, way in ways.items():
                    if name == "packed":
                        keep_freed_memory()
                    with foreign_load() as share:
                        started = time.perf_counter()
                        found[name] = np.asarray(way())
                        seconds[name].append(time.perf_counter() - started)
                    show(
                        way=name,
                        round=round_number,
                        seconds=round(seconds[name][-1], 2),
                        foreign=round(share.foreign, 2),
                    )
        report(seconds, found, truth, useful=forward_flops(lengths), ceiling=ceiling)


def report(
    seconds: dict[str, list[float]], found: dict[str, Rewards], truth: Rewards, *, useful: float, ceiling: float
) -> None:
    base = min(seconds[BASELINE])
    for name, times in seconds.items():
        took = min(times)  # the best round: the machine has other users, who only ever slow one down
        values = found[name]
        show(
            way=name,
            responses_per_s=round(len(truth) / took, 2),
            times_baseline=round(base / took, 2),
            useful_gflops=round(useful / took / 1e9, 1),
            ceiling_share=round(useful / took / 1e9 / ceiling, 2),
            largest_error=float(f"{abs(values - truth).max():.1e}"),
            pairs_turned=int(((values[::2] > values[1::2]) != (truth[::2] > truth[1::2])).sum()),
        )
    show(peak_rss_mib=round(peak_rss_mib()))


def show(**row: Any) -> None:
    print(json.dumps({"bench": "scoring", **row}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="256 pairs, 3 repeats")
    options = parser.parse_args()
    measure(256 if options.full else options.pairs, 3 if options.full else options.repeats)


if __name__ == "__main__":
    main()
