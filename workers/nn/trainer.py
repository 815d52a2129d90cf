"""The training loop: exact optimiser batches in micro-batches of similar length, resumable bit for bit.

A batch of units (pairs, or labelled responses) is cut into groups under a token budget, units of similar length
together. The loss of a unit depends on that unit alone (an objective says so where it does not), so the groups'
gradients add up to the gradient of the whole batch; only one group's activations are in memory at a time. Every random
draw follows from (seed, epoch) or (seed, step), so a position is just a step number.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.context import JobContext
from workers.data.collate import length_batches
from workers.nn.failures import NotFinite, explaining_disk, explaining_memory
from workers.nn.net import Net, no_tick
from workers.nn.optimisation import learning_rate_share, make_optimizer, set_learning_rates
from workers.nn.sharding import clip_gradients, equal_shares
from workers.nn.ticks import Throttle
from workers.nn.training_state import Progress, StateStore
from workers.nn.units import UnitData
from workers.nn.view import BatchView
from workers.nn.world import ALONE, World
from workers.nn.zero import ZeroOptimizer
from workers.objectives.base import Objective

Rows = NDArray[np.int64]
SHOWN_IN_ERROR = 8
METRICS_OF_PAIRS = ("accuracy", "margin_mean")
MEMORY_ADVICE = "Lower token_budget first (it changes no result), then max_length, or choose a smaller backbone."


@dataclass(frozen=True)
class Plan:
    """Settings of the loop. Steps count from 1; every `n_pairs` are one optimiser step."""

    n_steps: int
    n_pairs: int
    learning_rate: float
    head_learning_rate: float
    n_warmup: int
    weight_decay: float
    max_grad_norm: float
    eval_every: int
    checkpoint_every: int
    patience: int | None
    token_budget: int
    seed: int


@dataclass(frozen=True)
class StepResult:
    loss: float
    metrics: dict[str, float]
    grad_norm: float
    n_tokens: int


class Trainer:
    """Train `net` on the rows `train` of `data`; `run()` goes on from the newest state of `states`."""

    def __init__(
        self,
        ctx: JobContext,
        net: Net,
        objective: Objective,
        data: UnitData,
        rows: tuple[Rows, Rows],
        *,
        plan: Plan,
        states: StateStore,
        progress: Progress,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.ctx, self.net, self.objective, self.data = ctx, net, objective, data
        self.train_rows, self.validation_rows = rows
        self.plan, self.states, self.progress = plan, states, progress
        self.lengths = data.lengths
        self.optimizer = make_optimizer(
            net, plan.learning_rate, head_learning_rate=plan.head_learning_rate, weight_decay=plan.weight_decay
        )
        self.zero: ZeroOptimizer | None = None
        if world.is_zero:
            self.zero = ZeroOptimizer(net, self.optimizer, max_grad_norm=plan.max_grad_norm, world=world)
            self.optimizer = self.zero.inner
        self.margins = np.full((2, len(data)), np.nan, dtype=np.float32)
        """Last known margin of every pair: as the epoch began, and now. For objectives that order or choose by it."""
        self.tick = Throttle(ctx.checkpoint)
        self._order: tuple[int, Rows] | None = None
        self.n_steps_here = 0
        self.started = 0.0

    def run(self) -> str:
        """Train to the end; says in words why it ended."""
        if self.progress.step:
            self.margins = self.states.restore(self.progress, self.net, self.zero or self.optimizer, self.margins)
            self.objective.restore(self.states.objective_state(self.progress))
        self.objective.begin(self.net, self.data, self.train_rows, budget=self.plan.token_budget)
        self.net.tick, self.started = self.tick, time.monotonic()
        try:
            with explaining_memory(MEMORY_ADVICE), explaining_disk("the state of this run"):
                return self._steps()
        finally:
            self.net.tick = no_tick

    def _steps(self) -> str:
        before_s = self.progress.elapsed_s
        for step in range(self.progress.step + 1, self.plan.n_steps + 1):
            if self._is_stalled():
                return f"Stopped early: no lower validation loss in {self.plan.patience} validations"
            started = time.monotonic()
            rows = self._batch(step)
            result = self._step(step, rows)
            took_s = time.monotonic() - started
            self.progress.step = step
            self.progress.n_pairs_seen += len(rows)
            self._report(step, len(rows), result, took_s)
            if step % self.plan.eval_every == 0 or step == self.plan.n_steps:
                self._validate(step)
            self.progress.elapsed_s = before_s + time.monotonic() - self.started
            if step % self.plan.checkpoint_every == 0 or step == self.plan.n_steps or self._is_stalled():
                self._save()
        return f"All {self.plan.n_steps} steps done"

    def _save(self) -> None:
        objective = self.objective.state()
        self.states.save(self.progress, self.net, self.zero or self.optimizer, self.margins, objective=objective)
        self.world.wait()

    def _batch(self, step: int) -> Rows:
        """Rows of one step, in the objective's order of the epoch; the last batch of an epoch may be short."""
        epoch, place = self._place(step)
        if place == 0:
            self.margins[0] = self.margins[1]
        if self._order is None or self._order[0] != epoch:
            order = self.objective.order(epoch, self.data, self.train_rows, self.margins[0], seed=self.plan.seed)
            self._order = (epoch, order)
        return self._order[1][place * self.plan.n_pairs : (place + 1) * self.plan.n_pairs]

    def _place(self, step: int) -> tuple[int, int]:
        """Epoch and number within it of a step."""
        return divmod(step - 1, math.ceil(len(self.train_rows) / self.plan.n_pairs))

    def _step(self, step: int, rows: Rows) -> StepResult:
        torch.manual_seed(self.plan.seed * 1_000_003 + step)  # for dropout, which is then the same after a resume
        self.net.train()
        share = learning_rate_share(step, n_warmup=self.plan.n_warmup, n_steps=self.plan.n_steps)
        set_learning_rates(self.optimizer, share)
        total_weight = float(self.data.targets.weight[rows].sum())
        loss, metrics = 0.0, Counter[str]()
        with self.objective.around_step(self.net, step):
            groups = self._groups(rows)
            for group in self.world.mine(groups):
                self.ctx.checkpoint()
                part, told = self._backward(step, rows[group], total_weight)
                loss += part
                metrics.update({name: value * len(group) / len(rows) for name, value in told.items()})
            self._keep_pace(step, rows, groups)
            self.world.sum_gradients(self.net)
        loss, metrics = self._shared(rows, loss, metrics)
        norm = self._move(step, rows, loss)
        n_tokens = int(self.lengths[rows].sum())
        return StepResult(loss=loss, metrics=dict(metrics), grad_norm=norm, n_tokens=n_tokens)

    def _move(self, step: int, rows: Rows, loss: float) -> float:
        """Clip the gradients and move the weights; the gradients' length before."""
        if self.zero:
            self._insist_finite(step, loss, 0.0, rows)
            norm = self.zero.step()
            self._insist_finite(step, loss, norm, rows)
            return norm
        norm = clip_gradients(self.net, self.plan.max_grad_norm)
        self._insist_finite(step, loss, norm, rows)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _groups(self, rows: Rows) -> list[Rows]:
        """Places in `rows` that are computed together: under the token budget, and one a process at least."""
        lengths = self.lengths[rows]
        budget = min(self.plan.token_budget, math.ceil(int(lengths.sum()) / self.world.size))
        groups = list(length_batches(lengths, budget, is_padded=False))
        return equal_shares(groups, self.world.size) if self.world.is_split else groups

    def _keep_pace(self, step: int, rows: Rows, groups: list[Rows]) -> None:
        """A pass that counts for nothing where the model is split and the other processes have one group more."""
        if self.world.is_split and self.world.rank >= len(groups) % self.world.size > 0:
            known = self.margins[1].copy()
            self._backward(step, rows[groups[-1]], math.inf)
            self.margins[1] = known

    def _shared(self, rows: Rows, loss: float, metrics: Counter[str]) -> tuple[float, Counter[str]]:
        """Loss, metrics and margins of the whole batch, where processes have each computed a part."""
        if self.world.size == 1:
            return loss, metrics
        names = sorted(METRICS_OF_PAIRS if len(self.data.columns) == 2 else metrics)
        known = np.nan_to_num(self.margins[1, rows]) * self._is_mine(rows)
        told = self.world.sum_array(np.array([loss, *(metrics[name] for name in names), *known]))
        self.margins[1, rows] = told[1 + len(names) :]
        return float(told[0]), Counter(dict(zip(names, told[1 : 1 + len(names)].tolist(), strict=True)))

    def _is_mine(self, rows: Rows) -> NDArray[np.bool_]:
        mine = np.zeros(len(rows), dtype=np.bool_)
        for group in self.world.mine(self._groups(rows)):
            mine[group] = True
        return mine

    def _backward(self, step: int, rows: Rows, total_weight: float) -> tuple[float, dict[str, float]]:
        """Add the gradient of these units' share of the batch loss; that share, and the objective's metrics."""
        epoch, _ = self._place(step)
        view = BatchView(
            self.net, self.data, rows, budget=self.plan.token_budget, step=step, epoch=epoch, seed=self.plan.seed
        )
        loss: Tensor = self.objective.batch_loss(view).sum() / total_weight
        if self.zero:
            self.zero.backward(loss)
        elif self.world.is_sharded:  # gradients come out as the mean over processes, and no process may leave this out
            (loss * self.world.size).backward()  # type: ignore[no-untyped-call]
        elif loss.isfinite() and loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        if len(self.data.columns) == 2:
            rewards_a, rewards_b = (part.detach().float().cpu().numpy() for part in view.rewards)
            self.margins[1, rows] = rewards_a - rewards_b
        return loss.item(), self.objective.step_metrics(view)

    def _insist_finite(self, step: int, loss: float, grad_norm: float, rows: Rows) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        kept = self.states.newest()
        named = ", ".join(self.data.ids[i] for i in rows[:SHOWN_IN_ERROR]) if self.data.ids else "not named"
        raise NotFinite(
            f"The {what} was no longer a finite number at step {step}. The batch: {named}"
            + (f" and {len(rows) - SHOWN_IN_ERROR} more." if len(rows) > SHOWN_IN_ERROR else "."),
            "Lower learning_rate (or head_learning_rate), raise warmup_share, or use dtype float32. "
            + (f"The state of step {kept.step} is kept." if kept else "No state had been saved yet."),
        )

    def _report(self, step: int, n_pairs: int, result: StepResult, took_s: float) -> None:
        self.n_steps_here += 1
        pace_s = (time.monotonic() - self.started) / self.n_steps_here
        eta_s = pace_s * (self.plan.n_steps - step)
        self.ctx.metric(
            step,
            loss=result.loss,
            **result.metrics,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            grad_norm=result.grad_norm,
            pairs_per_s=n_pairs / took_s,
            tokens_per_s=result.n_tokens / took_s,
            eta_s=eta_s,
        )
        message = f"Step {step} of {self.plan.n_steps}, loss {result.loss:.3f}, about {in_words(eta_s)} left"
        self.ctx.progress(step, self.plan.n_steps, message)

    def _validate(self, step: int) -> None:
        if not len(self.validation_rows):
            return
        found = self.objective.validation(self.net, self.data, self.validation_rows, budget=self.plan.token_budget)
        self.ctx.metric(step, **found.as_metrics())
        self.progress.last = found.as_json(step)
        if self.progress.best is None or found.loss < self.progress.best["loss"]:
            self.progress.best, self.progress.best_step, self.progress.n_worse = found.as_json(step), step, 0
            self.states.save_best(step, self.net)
            self.world.wait()
        else:
            self.progress.n_worse += 1

    def _is_stalled(self) -> bool:
        return self.plan.patience is not None and self.progress.n_worse >= self.plan.patience


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
