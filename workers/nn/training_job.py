"""From a spec and a context to a trained, stored and verified checkpoint."""

import hashlib
import json
import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from workers.context import JobContext
from workers.data.render import Renderer
from workers.data.split import keep_share, split_by_prompt
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.nn.adapters import fold_adapters, has_adapters
from workers.nn.backbone import Backbone
from workers.nn.checkpoints import read_checkpoint
from workers.nn.economies import apply_economies
from workers.nn.failures import NotFinite
from workers.nn.features import compute_features, feature_folder
from workers.nn.net import Net
from workers.nn.precision import choose_dtype
from workers.nn.reward_net import RewardNet
from workers.nn.sharding import Sharded
from workers.nn.storing import store_checkpoint
from workers.nn.trainer import Plan, Rows, Trainer
from workers.nn.training_state import Progress, StateStore
from workers.nn.units import Keys, UnitData, read_units
from workers.nn.world import ALONE, World
from workers.objectives.base import Objective

EVALUATIONS = 10
EPOCHS = {False: 2, True: 20}
"""Where none are asked for, by whether the backbone is frozen: a head alone needs more, which cost next to nothing."""


@dataclass(frozen=True)
class Start:
    """What a run begins with: a backbone, and the weights of another checkpoint where it goes on from one."""

    backbone: Backbone
    weights: Any = None
    family: str = ""


def train(
    ctx: JobContext, spec: Any, family: Any, config: Any, objective: Objective, *, world: World = ALONE
) -> dict[str, Any]:
    """Train to the end or from where an earlier attempt was killed; the result as JSON (of the main process)."""
    keep_freed_memory()
    started = time.monotonic()
    objective.meet(config)
    begin = _start(ctx, spec, family, config)
    ctx.checkpoint()
    renderer = family.renderer(config, begin.backbone)
    data = _read(ctx, spec, family, config, renderer, objective)
    if hasattr(objective, "gather"):
        objective.gather(ctx, lambda items: family.encode(config, renderer, items))
    split_keys = objective.split_keys(data)
    rows = split_by_prompt(split_keys, validation_share=spec.validation_share, seed=spec.seed)
    rows = (keep_share(split_keys, rows[0], share=spec.train_share, seed=spec.seed), rows[1])
    states = StateStore(ctx.work_dir / "states", is_reader=not world.is_main)
    progress = _progress(ctx, spec, config, data, states, objective)
    torch.manual_seed(spec.seed)  # the fresh reward head
    net: Net = family.net(config, begin.backbone, dtype=progress.dtype)
    if begin.weights is not None:
        ctx.log(family.adopt(net, begin.weights, begin.family))
    if torch.cuda.is_available() and not world.is_sharded:
        net.to(world.device or "cuda")
    apply_economies(ctx, net, spec)
    is_frozen = _freeze(ctx, spec, family, net, data)
    parts: Sharded | None = None
    if hasattr(family, "prepare_head"):
        family.prepare_head(ctx, config, net=net, data=data, rows=rows[0])
    _announce(ctx, data, rows, progress, objective)
    if is_frozen and hasattr(family, "fit_head"):
        ended = _fit(ctx, spec, family, config, objective, net=net, data=data, rows=rows, progress=progress)
    else:
        plan = make_plan(spec, n_train=len(rows[0]), is_frozen=is_frozen)
        parts = Sharded(net, world) if world.is_sharded else None
        trainer = Trainer(ctx, net, objective, data, rows, plan=plan, states=states, progress=progress, world=world)
        try:
            ended = trainer.run()
        except NotFinite as error:
            if not world.is_main:
                raise
            net = parts.copy if parts else net
            raise _rescue(ctx, error, begin.backbone, family, config, net=net, data=data, states=states) from error
        net = parts.gather() if parts else net
    ctx.log(ended)
    world.wait()
    if not world.is_main:
        return {}
    _settle(spec, states, progress, net)
    finished = objective.finish(net, data, rows[0], budget=spec.token_budget)
    for line in finished.get("warnings", ()):
        ctx.log(line, "warning")
    folder = ctx.work_dir / "checkpoint"
    difference = store_checkpoint(
        ctx, folder, net, begin.backbone, family=family, config=config, data=data, progress=progress
    )
    told = _told(spec, objective, data, rows, progress)
    meta = {"step": told["kept_step"], "validation": _kept(progress, told["kept_step"])}
    return {
        "checkpoint": ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta=meta),
        "ended": ended,
        "backbone_frozen": is_frozen,
        **told,
        **({"finished": finished} if finished else {}),
        **({"head": report} if (report := getattr(getattr(net, "head", None), "report", None)) else {}),
        "seconds": round(time.monotonic() - started, 3),
        "peak_rss_mib": round(peak_rss_mib()),
        "n_parameters": sum(p.numel() for p in net.parameters()),
        **({"n_parameters_held": parts.n_held} if parts else {}),
        "probe_difference": difference,
        "environment": describe_environment(),
    }


def _told(
    spec: Any, objective: Objective, data: UnitData, rows: tuple[Rows, Rows], progress: Progress
) -> dict[str, Any]:
    """What a result says of the data and of the steps."""
    return {
        "objective": type(objective).name,
        "n_pairs": data.n_read,
        "n_train": len(rows[0]),
        "n_validation": len(rows[1]),
        "n_left_out": data.n_read - len(data),
        "left_out": data.left_out,
        "n_truncated": data.n_truncated,
        "n_response_cut": data.n_response_cut,
        "n_steps": progress.step,
        "kept_step": progress.best_step if spec.keep == "best" and progress.best_step else progress.step,
        "validation_final": progress.last,
        "validation_best": progress.best,
        "training_s": round(progress.elapsed_s, 3),
        "pairs_per_s": round(progress.n_pairs_seen / progress.elapsed_s, 3) if progress.elapsed_s else None,
        "dtype": progress.dtype,
        "encoded_sha256": data.fingerprint,
        "prompts_sha256": data.prompts_sha256,
    }


def _kept(progress: Progress, step: int) -> Any:
    """The validation of the weights that were kept."""
    return progress.best if step == progress.best_step else progress.last


def _settle(spec: Any, states: StateStore, progress: Progress, net: Net) -> None:
    """The weights that are kept, adapters folded into them."""
    if spec.keep == "best" and progress.best_step is not None and progress.best_step != progress.step:
        states.load_best(progress.best_step, net)
    if spec.lora_rank:
        fold_adapters(net)


def _start(ctx: JobContext, spec: Any, family: Any, config: Any) -> Start:
    if spec.start_from is None:
        ctx.progress(0, 1, f"Loading the backbone {config.backbone}")
        return Start(family.load_backbone(config))
    ctx.progress(0, 1, "Loading the checkpoint to start from")
    reference = ctx.load_checkpoint(spec.start_from)
    if reference.path is None:
        raise JobError("The checkpoint to start from is a rule: it has no weights.", "Choose a trained checkpoint.")
    own, other = config.backbone, reference.config.get("backbone", config.backbone)
    if own != other:
        raise JobError(
            f"The checkpoint to start from has the backbone {other}; this reward model has {own}.",
            "Start from a checkpoint with the same backbone, or register a reward model with the other one.",
        )
    backbone, weights = read_checkpoint(reference.path)
    return Start(backbone, weights, reference.family)


def _freeze(ctx: JobContext, spec: Any, family: Any, net: Net, data: UnitData) -> bool:
    """Freeze the backbone where the run or the family asks for it, and compute its features once."""
    wanted = family.frozen if spec.freeze_backbone is None else spec.freeze_backbone
    if not wanted:
        return False
    if not isinstance(net, RewardNet):
        raise JobError("This family has no head apart from its backbone.", "Leave freeze_backbone at no.")
    net.backbone.requires_grad_(False)

    def on_done(done: int, total: int) -> None:
        ctx.checkpoint()
        ctx.progress(done, total, f"Read {done} of {total} texts with the frozen backbone")

    data.features = compute_features(net, data, feature_folder(ctx), budget=spec.token_budget, on_done=on_done)
    return True


def _rescue(
    ctx: JobContext,
    error: NotFinite,
    backbone: Backbone,
    family: Any,
    config: Any,
    *,
    net: Net,
    data: UnitData,
    states: StateStore,
) -> JobError:
    """Keep the last good weights of a run that diverged as a checkpoint, so that what it cost is not lost."""
    good = states.newest()
    if good is None or not good.step:
        return error
    step = good.best_step or good.step
    states.load_weights(good, net)
    if has_adapters(net.backbone):
        fold_adapters(net)
    folder = ctx.work_dir / "checkpoint"
    store_checkpoint(ctx, folder, net, backbone, family=family, config=config, data=data, progress=good)
    meta = {"step": step, "validation": good.best or good.last, "rescued": True}
    ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta=meta)
    return NotFinite(error.message, f"{error.hint} The weights of step {step} are kept as a checkpoint.")


def _fit(
    ctx: JobContext,
    spec: Any,
    family: Any,
    config: Any,
    objective: Objective,
    *,
    net: Net,
    data: UnitData,
    rows: tuple[Rows, Rows],
    progress: Progress,
) -> str:
    """A head with a closed form: solved, not trained step by step."""
    ctx.progress(0, 1, "Solving for the head")
    ended: str = family.fit_head(ctx, config, objective, net=net, data=data, rows=rows, spec=spec)
    progress.step = 1
    if len(rows[1]):
        found = objective.validation(net, data, rows[1], budget=spec.token_budget)
        ctx.metric(1, **found.as_metrics())
        progress.last = progress.best = found.as_json(1)
        progress.best_step = 1
    return ended


def make_plan(spec: Any, *, n_train: int, is_frozen: bool = False) -> Plan:
    """Numbers of steps from the spec and the number of pairs."""
    n_pairs = spec.batch_pairs * spec.accumulation
    n_steps = max(1, round((spec.epochs or EPOCHS[is_frozen]) * math.ceil(n_train / n_pairs)))
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


def _read(ctx: JobContext, spec: Any, family: Any, config: Any, renderer: Renderer, objective: Objective) -> UnitData:
    query = spec.source.query()
    kind = objective.rows
    total = ctx.count_input(kind, source=query)
    what = "pairs" if kind == "pairs" else "labelled responses"

    def on_read(n: int) -> None:
        ctx.checkpoint()
        ctx.progress(0, 1, f"Read {n} of {max(n, total)} {what}")

    data = read_units(
        ctx.open_input(kind, source=query),
        renderer,
        objective,
        on_read=on_read,
        encode=lambda found, items: family.encode(config, found, items),
        unfit=lambda item: family.unfit(config, item),
        keys=Keys(rater=spec.rater_key, source=spec.source_key),
    )
    for key, names in ((spec.rater_key, data.raters), (spec.source_key, data.sources)):
        if key and len(data) and not any(names):
            ctx.log(f"No row has the metadata key {key}: all of them count as one", "warning")
    if not len(data):
        raise JobError(_nothing(data, what), "Choose a source that has what this objective learns from.")
    return objective.choose(data)


def _nothing(data: UnitData, what: str) -> str:
    why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(data.left_out.items()))
    return f"There is nothing to learn from: none of {data.n_read} {what} can be used" + (f" ({why})." if why else ".")


def _progress(
    ctx: JobContext, spec: Any, config: Any, data: UnitData, states: StateStore, objective: Objective
) -> Progress:
    """Where an earlier attempt of this run was; from the start when its data or settings were others."""
    told = [
        spec.model_dump(mode="json"),
        config.model_dump(mode="json"),
        type(objective).name,
        data.fingerprint,
        str(torch.__version__),
    ]
    fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    found = states.newest()
    if found is not None and found.fingerprint == fingerprint:
        ctx.log(f"Going on after step {found.step}, which an earlier attempt had saved")
        return found
    if found is not None:
        ctx.log("The data or the settings changed since the saved state: starting again from the first step", "warning")
    return Progress(fingerprint=fingerprint, dtype=choose_dtype(spec.dtype))


def _announce(
    ctx: JobContext, data: UnitData, rows: tuple[Rows, Rows], progress: Progress, objective: Objective
) -> None:
    what = "pairs" if objective.rows == "pairs" else "labelled responses"
    apart = f"no {objective.split_by} in both"
    ctx.log(f"{len(rows[0])} {what} to train on, {len(rows[1])} held out, {apart}; {progress.dtype}")
    if data.left_out:
        why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(data.left_out.items()))
        ctx.log(f"Left out: {why}", "warning")
    if data.n_truncated:
        ctx.log(f"Prompts longer than the model reads, which lost their start: {data.n_truncated}", "warning")
    if data.n_response_cut:
        ctx.log(f"Responses alone longer than the model reads, whose end was cut: {data.n_response_cut}", "warning")
    if len(rows[1]) == 0:
        ctx.log(f"No {what} are held out: there is no validation, and the weights of the last step are kept", "warning")
    if objective.is_batch_coupled and data.features is None:
        ctx.log(
            "The loss of a unit depends on the others in its batch: gradients are of groups under token_budget, which"
            " is not the same as one large batch",
            "warning",
        )
