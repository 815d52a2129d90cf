"""From a spec and a context to a trained, stored and verified checkpoint."""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workers.context import JobContext
from workers.data.render import Renderer
from workers.data.split import split_by_prompt
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.nn.backbone import Backbone, load_backbone
from workers.nn.checkpoints import read_about, write_checkpoint
from workers.nn.pair_data import PairData, read_pairs
from workers.nn.precision import choose_dtype
from workers.nn.reward_net import RewardNet
from workers.nn.trainer import Plan, Rows, Trainer
from workers.nn.training_state import Progress, StateStore
from workers.objectives.base import Objective

SAME_REWARD = 1e-4
EVALUATIONS = 10


def train(ctx: JobContext, spec: Any, family: Any, config: Any, objective: Objective) -> dict[str, Any]:
    """Train to the end or from where an earlier attempt was killed; the result as JSON."""
    keep_freed_memory()
    started = time.monotonic()
    ctx.progress(0, 1, f"Loading the backbone {config.backbone}")
    backbone = load_backbone(config.backbone)
    ctx.checkpoint()
    data = _read(ctx, spec, family.renderer(config, backbone), objective)
    rows = split_by_prompt(data.prompt_keys, validation_share=spec.validation_share, seed=spec.seed)
    states = StateStore(ctx.work_dir / "states")
    progress = _progress(ctx, spec, config, data, states)
    torch.manual_seed(spec.seed)  # the fresh reward head
    net = family.net(config, backbone, dtype=progress.dtype)
    if torch.cuda.is_available():
        net.cuda()
    plan = make_plan(spec, n_train=len(rows[0]))
    _announce(ctx, data, rows, progress)
    trainer = Trainer(ctx, net, objective, data, rows, plan=plan, states=states, progress=progress)
    ended = trainer.run()
    ctx.log(ended)
    if spec.keep == "best" and progress.best_step not in (None, progress.step):
        states.load_best(progress.best_step, net)
    folder = ctx.work_dir / "checkpoint"
    error = _store(ctx, folder, net, backbone, family=family, config=config, data=data, progress=progress)
    kept_step = progress.best_step if spec.keep == "best" and progress.best_step else progress.step
    meta = {"step": kept_step, "validation": progress.best if kept_step == progress.best_step else progress.last}
    uid = ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta=meta)
    return {
        "checkpoint": uid,
        "ended": ended,
        "n_pairs": data.n_read,
        "n_train": len(rows[0]),
        "n_validation": len(rows[1]),
        "n_left_out": data.n_read - len(data),
        "left_out": data.left_out,
        "n_truncated": data.n_truncated,
        "n_response_cut": data.n_response_cut,
        "n_steps": progress.step,
        "kept_step": kept_step,
        "validation_final": progress.last,
        "validation_best": progress.best,
        "seconds": round(time.monotonic() - started, 3),
        "training_s": round(progress.elapsed_s, 3),
        "pairs_per_s": round(progress.n_pairs_seen / progress.elapsed_s, 3) if progress.elapsed_s else None,
        "peak_rss_mib": round(peak_rss_mib()),
        "n_parameters": sum(p.numel() for p in net.parameters()),
        "dtype": progress.dtype,
        "data_sha256": data.fingerprint,
        "probe_difference": error,
        "environment": describe_environment(),
    }


def make_plan(spec: Any, *, n_train: int) -> Plan:
    """Numbers of steps from the spec and the number of pairs."""
    n_pairs = spec.batch_pairs * spec.accumulation
    n_steps = max(1, round(spec.epochs * math.ceil(n_train / n_pairs)))
    n_steps = min(n_steps, spec.max_steps or n_steps)
    return Plan(
        n_steps=n_steps,
        n_pairs=n_pairs,
        learning_rate=spec.learning_rate,
        head_learning_rate=spec.head_learning_rate or 10 * spec.learning_rate,
        n_warmup=round(spec.warmup_share * n_steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        eval_every=spec.eval_every or math.ceil(n_steps / EVALUATIONS),
        checkpoint_every=spec.checkpoint_every,
        patience=spec.early_stop_patience,
        token_budget=spec.token_budget,
        seed=spec.seed,
    )


def _read(ctx: JobContext, spec: Any, renderer: Renderer, objective: Objective) -> PairData:
    query = spec.source.query()
    total = ctx.count_input("pairs", source=query)

    def on_read(n: int) -> None:
        ctx.checkpoint()
        ctx.progress(0, 1, f"Read {n} of {max(n, total)} pairs")

    data = read_pairs(ctx.open_input("pairs", source=query), renderer, objective, on_read=on_read)
    if not len(data):
        raise JobError(
            f"There is nothing to learn from: of {data.n_read} pairs none has a chosen and a rejected response.",
            "Choose a source with preferences, or an objective that has a use for ties.",
        )
    return data


def _progress(ctx: JobContext, spec: Any, config: Any, data: PairData, states: StateStore) -> Progress:
    """Where an earlier attempt of this run was; from the start when its data or settings were others."""
    told = [spec.model_dump(mode="json"), config.model_dump(mode="json"), data.fingerprint, str(torch.__version__)]
    fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    found = states.newest()
    if found is not None and found.fingerprint == fingerprint:
        ctx.log(f"Going on after step {found.step}, which an earlier attempt had saved")
        return found
    if found is not None:
        ctx.log("The data or the settings changed since the saved state: starting again from the first step", "warning")
    states.clear()
    return Progress(fingerprint=fingerprint, dtype=choose_dtype(spec.dtype))


def _announce(ctx: JobContext, data: PairData, rows: tuple[Rows, Rows], progress: Progress) -> None:
    ctx.log(f"{len(rows[0])} pairs to train on, {len(rows[1])} held out, no prompt in both; {progress.dtype}")
    if data.left_out:
        why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(data.left_out.items()))
        ctx.log(f"Left out: {why}", "warning")
    if data.n_truncated:
        ctx.log(f"{data.n_truncated} prompts were longer than the model reads and lost their start", "warning")
    if data.n_response_cut:
        ctx.log(f"{data.n_response_cut} responses alone were longer than the model reads; their end was cut", "warning")
    if len(rows[1]) == 0:
        ctx.log("No pairs are held out: there is no validation, and the weights of the last step are kept", "warning")


def _store(
    ctx: JobContext,
    folder: Path,
    net: RewardNet,
    backbone: Backbone,
    *,
    family: Any,
    config: Any,
    data: PairData,
    progress: Progress,
) -> float:
    """Write the checkpoint, open it as scoring will, and refuse it when it gives the probes other rewards."""
    ctx.progress(1, 1, "Saving and checking the reward model")
    renderer = family.renderer(config, backbone)
    rewards = _probe_rewards(net, renderer, data)
    about = {
        "format": 1,
        "family": family.name,
        "config": config.model_dump(mode="json"),
        "pooling": net.pooling,
        "rendering": renderer.fingerprint,
        "data_sha256": data.fingerprint,
        "trained_in": progress.dtype,
        "probes": [{"prompt": p, "response": r, "reward": v} for (p, r), v in zip(data.probes, rewards, strict=True)],
    }
    write_checkpoint(folder, net, backbone, about)
    return verify_checkpoint(folder, family, config)


def _probe_rewards(net: RewardNet, renderer: Renderer, data: PairData) -> list[float]:
    from workers.nn.scoring import net_rewards

    trained_in, net.dtype = net.dtype, "float32"
    values = net_rewards(net.eval(), renderer.encode(data.probes), 2048)
    net.dtype = trained_in
    return [float(v) for v in values]


def verify_checkpoint(folder: Path, family: Any, config: Any) -> float:
    """Largest difference between the stored rewards of the probes and those of a scorer opened afresh."""
    probes = read_about(folder)["probes"]
    scorer = family.open(config.model_copy(update={"scoring_dtype": "float32"}), folder)
    found = scorer.score([(probe["prompt"], probe["response"]) for probe in probes]).values
    stored = np.array([probe["reward"] for probe in probes], dtype=np.float64)
    error = float(np.abs(found - stored).max()) if len(probes) else 0.0
    if not error <= SAME_REWARD:
        raise JobError(
            f"The saved checkpoint gives other rewards than the model that was trained (difference {error:.2g}).",
            "The checkpoint was refused. Check the disk, and that the backbone loads the same way twice.",
        )
    return error
