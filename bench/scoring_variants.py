"""Two more questions of bench_scoring: what a shared prompt saves, and whether memory stays flat over a long stream."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from bench.bench_scoring import alone, by_length, run, show
from bench.conversations import causal_model
from bench.machine import foreign_load
from workers.context import LocalJobContext, RewardModelRef
from workers.data.schema import ResponseItem
from workers.environment import keep_freed_memory
from workers.jobs.base import Source
from workers.jobs.score import BLOCK, score_missing


def causal_net() -> Any:
    """A Qwen2 of MiniLM's size, three query heads to each of keys and values, and a reward head."""
    import torch

    from workers.nn.backbone import described
    from workers.nn.reward_net import RewardNet
    from workers.nn.tiny import tiny_tokenizer

    shape = {"num_key_value_heads": 4, "intermediate_size": 1536, "max_position_embeddings": 1024}
    model = causal_model("Qwen2", vocab_size=2000, pad_token_id=0, **shape)
    net = RewardNet(described(model, tiny_tokenizer("tiny-causal")), "last")
    torch.nn.init.normal_(net.head.weight, std=0.05)
    return net.eval()


def conversations(n_prompts: int, n_each: int, *, seed: int = 0) -> list[Any]:
    """Prompts of about 95 tokens with n responses of about 115 each, both log-normal; a prompt's stand together."""
    import numpy as np

    from workers.data.render import Encoded

    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n_prompts):
        prompt = rng.integers(5, 2000, int(np.clip(rng.lognormal(np.log(75), 0.7), 4, 480)))
        for _ in range(n_each):
            response = rng.integers(5, 2000, int(np.clip(rng.lognormal(np.log(90), 0.7), 2, 480)))
            made.append(Encoded(np.concatenate([prompt, response]).astype(np.int32), len(response)))
    return made


def measure_shared(n_prompts: int, repeats: int, sizes: Sequence[int] = (2, 4, 16)) -> None:
    """By length with padding, packed with every prompt repeated, packed with every prompt once."""
    import numpy as np

    from workers.nn.scoring import net_rewards

    net = causal_net()
    keep_freed_memory()
    for n_each in sizes:
        items = conversations(n_prompts * 16 // n_each, n_each)
        own = [replace(item, n_response=len(item)) for item in items]  # no prompt that could be shared
        prompt_share = 1 - sum(item.n_response for item in items) / sum(map(len, items))
        truth = alone(net, items)
        ways = {
            "by length, padded": lambda items=items: by_length(net, items),
            "packed, prompt n times": lambda own=own: net_rewards(net, own, 2048),
            "packed, prompt once": lambda items=items: net_rewards(net, items, 2048),
        }
        timings, found = run(ways, repeats)
        base = timings["by length, padded"]
        for name, timing in timings.items():
            show(
                responses_a_prompt=n_each,
                n_responses=len(items),
                prompt_share=round(prompt_share, 2),
                way=name,
                **timing.told(),
                times_padded=round(min(base.wall_s) / min(timing.wall_s), 2),
                times_padded_cpu=round(min(base.cpu_s) / min(timing.cpu_s), 2),
                token_bound=round(1 / (1 - prompt_share * (1 - 1 / n_each)), 2),
                largest_error=float(f"{np.abs(found[name] - truth).max():.1e}"),
                reward_spread=round(float(truth.std()), 2),
            )


class StreamContext(LocalJobContext):
    """n short responses that are made as they are read; scores are counted and let go, as a database takes them."""

    n_stream = 0
    n_kept = 0

    def open_input(self, name: str, **query: Any) -> Iterator[Any]:
        for number in range(self.n_kept, self.n_stream):
            prompt = f"question {number // 4}"
            yield ResponseItem(
                number + 1,
                [{"role": "user", "content": prompt}],
                [{"role": "assistant", "content": f"answer {number} " * (1 + number % 3)}],
            )

    def count_input(self, name: str, **query: Any) -> int:
        return self.n_stream - self.n_kept

    def save_scores(
        self,
        checkpoint_uid: str,
        rows: Iterable[tuple[int, float]],
        parts: Mapping[int, Any] | None = None,
        *,
        extra: str = "",
    ) -> int:
        n = sum(1 for _ in rows)
        self.n_kept += n
        return n

    def metric(self, step: int, **values: float) -> None:
        if step % 10 == 0:
            self.rss_mib.append(rss_mib())

    rss_mib: list[float]


def measure_stream(n: int) -> None:
    """Resident memory while n short responses are scored: after the first blocks it should not grow."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = StreamContext(Path(folder), reward_models={"m": RewardModelRef("m", "scalar_head", {})})
        ctx.n_stream, ctx.rss_mib = n, []
        ctx.checkpoints["c"] = tiny_checkpoint(Path(folder) / "checkpoint")
        with foreign_load() as share:
            found = score_missing(ctx, "c", Source(dataset="any"))
    show(
        way="stream",
        n_scored=found["n_scored"],
        setting=found["setting"],
        responses_per_s=found["responses_per_s"],
        foreign=round(share.foreign, 2),
        rss_mib_after_10_blocks=round(ctx.rss_mib[0], 1),
        rss_mib_at_the_end=round(ctx.rss_mib[-1], 1),
        growth_mib=round(ctx.rss_mib[-1] - ctx.rss_mib[0], 1),
        rss_mib=[round(value) for value in thinned(ctx.rss_mib)],
        block=BLOCK,
    )


def thinned(values: Sequence[float], n: int = 10) -> Sequence[float]:
    return values[:: max(1, len(values) // n)]


def tiny_checkpoint(folder: Path) -> Any:
    from workers.context import CheckpointRef
    from workers.families import FAMILIES
    from workers.nn.checkpoints import write_checkpoint

    family: Any = FAMILIES.get("scalar_head")
    config = family.Config(backbone="tiny-encoder")
    backbone = family.load_backbone(config)
    write_checkpoint(folder, family.net(config, backbone), backbone, {"format": 1})
    return CheckpointRef("c", "scalar_head", config.model_dump(), folder)


def rss_mib() -> float:
    """Of this process and its children."""
    me = psutil.Process()
    return float(sum(process.memory_info().rss for process in (me, *me.children(recursive=True))) / 2**20)
