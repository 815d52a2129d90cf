"""Scoring throughput: responses a second, share of the machine's ceiling, and what each way does to the rewards.

    python -m bench.bench_scoring [--pairs 96] [--repeats 1] [--full]
    python -m bench.bench_scoring --causal                   a causal backbone, as most public reward models have
    python -m bench.bench_scoring --shared [--prompts 24]    prompts with 2, 4 and 16 responses, causal backbone
    python -m bench.bench_scoring --stream 200000            memory of a long stream of short responses

The same MiniLM with the same head scores the same conversations: as rewardbench v1 does (dataset order, batches of
eight, chosen and rejected in two forwards, padded to the longest; with right and with left padding), in batches of
similar length, packed, packed with one process a core, and packed in int8. `largest_error` is against each response
alone without padding, on rewards of the standard deviation `spread`; the ceiling is the best matrix product of the
model's own shapes on this machine.

Every way is timed by the clock and by processor time of this process and its children; `foreign` is the share of the
machine that others took meanwhile. Where that is much, compare processor time.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workers.nn  # noqa: F401 - sets how OpenMP waits, for every variant alike
from bench.conversations import forward_flops, make_pairs, write_causal
from bench.machine import foreign_load, matmul_ceiling, own_cpu_s
from workers.context import CheckpointRef
from workers.data.schema import PreferencePair
from workers.environment import available_cpus, keep_freed_memory, peak_rss_mib
from workers.families import FAMILIES
from workers.opening import Setting, open_here
from workers.parallel import parallel_scorer

Rewards = Any
BASELINE = "rewardbench v1 loop"


@dataclass
class Timing:
    """Best of several rounds: the machine has other users, who only ever slow one down."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)

    @contextmanager
    def round(self) -> Iterator[None]:
        with foreign_load() as share:
            cpu, wall = own_cpu_s(), time.perf_counter()
            yield
            self.wall_s.append(time.perf_counter() - wall)
            self.cpu_s.append(own_cpu_s() - cpu)
        self.foreign.append(share.foreign)

    def told(self) -> dict[str, float]:
        best = {"wall_s": min(self.wall_s), "cpu_s": min(self.cpu_s), "foreign": min(self.foreign)}
        return {name: round(value, 2) for name, value in best.items()}


def make_checkpoint(folder: Path, backbone_name: str = "minilm") -> CheckpointRef:
    """A backbone with a random head, which makes near ties: the hardest case for exactness."""
    import torch

    from workers.nn.backbone import load_backbone
    from workers.nn.checkpoints import write_checkpoint

    family: Any = FAMILIES.get("scalar_head")
    config = family.Config(backbone=backbone_name)
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


def by_length(net: Any, encoded: Sequence[Any]) -> list[float]:
    """What every architecture gets that cannot be packed."""
    import numpy as np
    import torch

    from workers.data.collate import length_batches

    rewards = np.empty(len(encoded))
    with torch.inference_mode():
        for batch in length_batches([len(e) for e in encoded], 2048):
            rewards[batch] = net.outputs_of(net._padded([encoded[i] for i in batch])).numpy()
    return rewards.tolist()


def items_of(pairs: Sequence[PreferencePair]) -> list[Any]:
    return [(p.prompt, r) for p in pairs for r in (p.response_a, p.response_b)]


def alone(net: Any, encoded: Sequence[Any]) -> Rewards:
    """Each response in a batch of its own, with nothing padded: the truth."""
    import numpy as np
    import torch

    with torch.inference_mode():
        return np.array([float(net.outputs_of(net._padded([item]))) for item in encoded])


def measure(n_pairs: int, repeats: int, *, is_causal: bool = False) -> None:
    """With a causal backbone a prompt is computed once for its two responses, which `useful` counts twice."""
    import numpy as np

    pairs = make_pairs(n_pairs, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        name = str(write_causal(Path(folder) / "backbone")) if is_causal else "minilm"
        reference = make_checkpoint(Path(folder) / "checkpoint", name)
        scorer: Any = open_here(reference.family, reference.config, reference.path, Setting())
        rough = open_here(reference.family, {**reference.config, "scoring_dtype": "int8"}, reference.path, Setting())
        encoded = scorer.renderer.encode(items_of(pairs))
        lengths = [len(e) for e in encoded]
        truth, ceiling = alone(scorer.net, encoded), matmul_ceiling()
        show(
            backbone="causal" if is_causal else name,
            n_responses=len(truth),
            mean_tokens=round(float(np.mean(lengths))),
            spread=round(float(truth.std()), 2),
            ceiling_gflops=round(ceiling, 1),
        )
        with parallel_scorer(reference, available_cpus()) as many:
            many.score(items_of(pairs[:4]))  # start the children, which a large input pays once
            ways: dict[str, Callable[[], Rewards]] = {
                BASELINE: lambda: rewardbench_loop(scorer, pairs, "right"),
                f"{BASELINE}, left padding": lambda: rewardbench_loop(scorer, pairs, "left"),
                "by length": lambda: by_length(scorer.net, scorer.renderer.encode(items_of(pairs))),
                "packed": lambda: scorer.score(items_of(pairs)).values,
                f"packed, {available_cpus()} processes": lambda: many.score(items_of(pairs)).values,
                "packed, int8": lambda: rough.score(items_of(pairs)).values,
            }
            timings, found = run(ways, repeats)
        report(timings, found, truth, useful=forward_flops(lengths), ceiling=ceiling)


def run(ways: dict[str, Callable[[], Rewards]], repeats: int) -> tuple[dict[str, Timing], dict[str, Rewards]]:
    """Every way in turn, so that what else the machine does falls on all of them alike."""
    import numpy as np

    timings = {name: Timing() for name in ways}
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            if name == "packed":
                keep_freed_memory()
            with timings[name].round():
                found[name] = np.asarray(way())
    return timings, found


def report(
    timings: dict[str, Timing], found: dict[str, Rewards], truth: Rewards, *, useful: float, ceiling: float
) -> None:
    base = timings[BASELINE]
    for name, timing in timings.items():
        took, values = min(timing.wall_s), found[name]
        show(
            way=name,
            **timing.told(),
            responses_per_s=round(len(truth) / took, 2),
            responses_per_cpu_s=round(len(truth) / min(timing.cpu_s), 2),
            times_baseline=round(min(base.wall_s) / took, 2),
            times_baseline_cpu=round(min(base.cpu_s) / min(timing.cpu_s), 2),
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
    parser.add_argument("--causal", action="store_true", help="a causal backbone of MiniLM's size, random weights")
    parser.add_argument("--shared", action="store_true", help="several responses a prompt, causal backbone")
    parser.add_argument("--prompts", type=int, default=24, help="of --shared, with 16 responses; more with fewer")
    parser.add_argument("--stream", type=int, default=0, help="memory of scoring so many short responses")
    options = parser.parse_args()
    if options.shared:
        from bench.scoring_variants import measure_shared

        measure_shared(options.prompts, options.repeats)
    elif options.stream:
        from bench.scoring_variants import measure_stream

        measure_stream(options.stream)
    else:
        n_pairs, repeats = (256, 3) if options.full else (options.pairs, options.repeats)
        measure(n_pairs, repeats, is_causal=options.causal)


if __name__ == "__main__":
    main()
