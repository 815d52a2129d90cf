"""Training throughput: pairs a second, memory and the loss of every step, side by side.

    python -m bench.bench_training [--steps 4] [--repeats 1] [--full]
    python -m bench.bench_training --causal                a causal backbone, as most public reward models have

Variants, each in a process of its own, interleaved over the repeats: TRL's RewardTrainer (where `pip install
steelyard[bench]` was done), a plain loop that pads every batch to its longest, and the job train_rm. All train the same
MiniLM (or a Llama of its size with random weights) with the same head on the same batches with the same schedule, so
their losses must agree.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import workers.nn  # noqa: F401 - sets how OpenMP waits, for every variant alike
from bench.conversations import forward_flops, make_pairs, write_causal
from bench.machine import foreign_load, matmul_ceiling
from workers.environment import keep_freed_memory, peak_rss_mib

VARIANTS = ("trl", "plain", "steelyard")
BATCH, RATE, MAX_LENGTH = 16, 5e-5, 512


def prepare(n_steps: int, name: str) -> tuple[Any, Any, Any]:
    """Net, objective and encoded pairs, the same for every variant."""
    import torch

    from workers.data.render import Renderer
    from workers.nn.backbone import load_backbone
    from workers.nn.reward_net import RewardNet
    from workers.nn.units import read_units
    from workers.objectives import OBJECTIVES

    entry: Any = OBJECTIVES.get("bradley_terry")
    objective = entry(entry.Config(centre_coefficient=0.0))
    backbone = load_backbone(name)
    pairs = make_pairs(BATCH * n_steps, seed=1)
    data = read_units(pairs, Renderer(backbone.tokenizer, MAX_LENGTH), objective, on_read=lambda _: None)
    torch.manual_seed(0)
    return RewardNet(backbone, "last" if backbone.is_causal else "mean"), objective, data


def run_steelyard(n_steps: int, name: str) -> tuple[list[float], list[float], Any]:
    import numpy as np

    from workers.context import LocalJobContext
    from workers.nn.trainer import Plan, Trainer
    from workers.nn.training_state import Progress, StateStore

    keep_freed_memory()
    net, objective, data = prepare(n_steps, name)
    plan = Plan(
        n_steps=n_steps, n_pairs=BATCH, learning_rate=RATE, head_learning_rate=RATE, n_warmup=0, weight_decay=0.0,
        max_grad_norm=1.0, eval_every=10**6, checkpoint_every=10**6, patience=None, token_budget=2048, seed=0,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    ctx = LocalJobContext(folder)
    stamps: list[float] = []
    report = ctx.metric

    def metric(step: int, **values: float) -> None:
        stamps.append(time.perf_counter())
        report(step, **values)

    ctx.metric = metric  # type: ignore[method-assign]
    rows = (np.arange(len(data)), np.arange(0))
    trainer = Trainer(
        ctx, net, objective, data, rows, plan=plan, states=StateStore(folder / "s"), progress=Progress("", "float32")
    )
    trainer._batch = lambda step: rows[0][(step - 1) * BATCH : step * BATCH]  # type: ignore[method-assign]
    trainer.states.save = lambda *_, **__: None  # type: ignore[method-assign,assignment] - the others save nothing
    trainer.run()
    return stamps, [m["loss"] for m in ctx.metrics], data


def run_plain(n_steps: int, name: str) -> tuple[list[float], list[float], Any]:
    """What most training scripts do: one padded tensor a step."""
    import torch

    from workers.nn.optimisation import learning_rate_share, make_optimizer, set_learning_rates

    net, _, data = prepare(n_steps, name)
    optimizer = make_optimizer(net, RATE, head_learning_rate=RATE, weight_decay=0.0)
    stamps, losses = [], []
    for step in range(1, n_steps + 1):
        rows = range((step - 1) * BATCH, step * BATCH)
        rewards = net.outputs_of(net._padded([side[i] for side in data.columns for i in rows]))
        chosen, rejected = rewards.chunk(2)
        loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        set_learning_rates(optimizer, learning_rate_share(step, n_warmup=0, n_steps=n_steps))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        stamps.append(time.perf_counter())
    return stamps, losses, data


def run_trl(n_steps: int, name: str) -> tuple[list[float], list[float], Any]:
    from datasets import Dataset
    from transformers import PreTrainedModel, TrainerCallback
    from transformers.modeling_outputs import SequenceClassifierOutput
    from trl import RewardConfig, RewardTrainer

    net, _, data = prepare(n_steps, name)
    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

    class SameModel(PreTrainedModel):
        """The same backbone and head behind the interface that TRL trains."""

        config_class = type(net.backbone.config)
        _supports_sdpa = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.net = net

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> SequenceClassifierOutput:
            import torch

            from workers.nn.pooling import pool

            hidden = self.net.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            n_response = torch.zeros(len(input_ids))
            return SequenceClassifierOutput(
                logits=self.net.head(pool(hidden, attention_mask, self.net.pooling, n_response))
            )

    config = net.backbone.config
    config.num_labels, config.problem_type = 1, None
    from transformers import AutoTokenizer

    from bench.conversations import minilm_path

    rows = [{"chosen_ids": a.ids.tolist(), "rejected_ids": b.ids.tolist()} for a, b in zip(*data.columns, strict=True)]
    arguments = RewardConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        max_length=MAX_LENGTH,
        max_steps=n_steps,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        weight_decay=0.0,
        train_sampling_strategy="sequential",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = RewardTrainer(
        model=SameModel(config),
        args=arguments,
        processing_class=AutoTokenizer.from_pretrained(minilm_path()),
        train_dataset=Dataset.from_list(rows),
        callbacks=[Clock()],
    )
    trainer.train()
    return stamps, [float(row["loss"]) for row in trainer.state.log_history if "loss" in row], data


def one(variant: str, n_steps: int, name: str) -> dict[str, Any]:
    run = {"trl": run_trl, "plain": run_plain, "steelyard": run_steelyard}[variant]
    with foreign_load() as share:
        stamps, losses, data = run(n_steps, name)
    seconds = stamps[-1] - stamps[0]  # the first step warms up
    work = 3 * forward_flops([len(item) for side in data.columns for item in side[BATCH:]])
    return {
        "bench": "training",
        "variant": variant,
        "pairs_per_s": round(BATCH * (n_steps - 1) / seconds, 3),
        "useful_gflops": round(work / seconds / 1e9, 1),
        "peak_rss_mib": round(peak_rss_mib()),
        "foreign_share": round(share.foreign, 2),
        "losses": losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--backbone", default="minilm", help="a folder or name; --causal makes one")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--full", action="store_true", help="8 steps, 3 repeats")
    options = parser.parse_args()
    if options.full:
        options.steps, options.repeats = 8, 3
    if options.variant:
        print(json.dumps(one(options.variant, options.steps, options.backbone)))
        return
    variants = [v for v in VARIANTS if v != "trl" or find_spec("trl")]
    if "trl" not in variants:
        print("TRL is not installed (pip install 'steelyard[bench]'): compared with the plain loop alone")
    with tempfile.TemporaryDirectory() as folder:
        name = str(write_causal(Path(folder))) if options.causal else options.backbone
        compare(measured(variants, name, options.steps, options.repeats), "causal" if options.causal else name)


def measured(variants: Sequence[str], name: str, n_steps: int, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Every variant in turn, so that what else the machine does falls on all of them alike."""
    rows: dict[str, list[dict[str, Any]]] = {v: [] for v in variants}
    for _ in range(repeats):
        for variant in variants:
            options = [f"--variant={variant}", f"--steps={n_steps}", f"--backbone={name}"]
            command = [sys.executable, "-m", "bench.bench_training", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[variant].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(json.dumps({k: v for k, v in rows[variant][-1].items() if k != "losses"}), flush=True)
    return rows


def compare(rows: dict[str, list[dict[str, Any]]], name: str) -> None:
    ours = rows["steelyard"]
    print(json.dumps({"bench": "training", "backbone": name, "ceiling_gflops": round(matmul_ceiling(), 1)}))
    for variant, found in rows.items():
        if variant == "steelyard":
            continue
        gaps = [abs(a - b) for a, b in zip(ours[0]["losses"], found[0]["losses"], strict=True)]
        ratio = median(ours, "pairs_per_s") / median(found, "pairs_per_s")
        memory = median(ours, "peak_rss_mib") / median(found, "peak_rss_mib")
        told = {"times_the_pairs_per_s": round(ratio, 2), "times_the_memory": round(memory, 2)}
        print(json.dumps({"bench": "training", "against": variant, **told, "largest_loss_gap": max(gaps)}))


def median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


if __name__ == "__main__":
    main()
