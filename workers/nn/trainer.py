"""The training loop: exact optimiser batches in micro-batches of similar length, resumable bit for bit.

A batch of pairs is cut into groups under a token budget, pairs of similar length together. The loss of a pair depends
on that pair alone, so the groups' gradients add up to the gradient of the whole batch; only one group's activations are
in memory at a time. Every random draw follows from (seed, epoch) or (seed, step), so a position is just a step number.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.context import JobContext
from workers.data.collate import length_batches
from workers.errors import JobError
from workers.nn.failures import explaining_memory
from workers.nn.optimisation import learning_rate_share, make_optimizer, set_learning_rates
from workers.nn.pair_data import PairData
from workers.nn.reward_net import RewardNet, no_tick
from workers.nn.ticks import Throttle
from workers.nn.training_state import Progress, StateStore
from workers.nn.validation import validate
from workers.objectives.base import Objective

Rows = NDArray[np.int64]
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
    n_right: int
    margin_mean: float
    grad_norm: float
    n_tokens: int


class Trainer:
    """Train `net` on the rows `train` of `data`; `run()` goes on from the newest state of `states`."""

    def __init__(
        self,
        ctx: JobContext,
        net: RewardNet,
        objective: Objective,
        data: PairData,
        rows: tuple[Rows, Rows],
        *,
        plan: Plan,
        states: StateStore,
        progress: Progress,
    ) -> None:
        self.ctx, self.net, self.objective, self.data = ctx, net, objective, data
        self.train_rows, self.validation_rows = rows
        self.plan, self.states, self.progress = plan, states, progress
        self.lengths = data.lengths
        self.optimizer = make_optimizer(
            net, plan.learning_rate, head_learning_rate=plan.head_learning_rate, weight_decay=plan.weight_decay
        )
        self.tick = Throttle(ctx.checkpoint)
        self.n_steps_here = 0
        self.started = 0.0

    def run(self) -> str:
        """Train to the end; says in words why it ended."""
        if self.progress.step:
            self.states.restore(self.progress, self.net, self.optimizer)
        self.net.tick, self.started = self.tick, time.monotonic()
        try:
            with explaining_memory(MEMORY_ADVICE):
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
                self.states.save(self.progress, self.net, self.optimizer)
        return f"All {self.plan.n_steps} steps done"

    def _batch(self, step: int) -> Rows:
        """Rows of one step: the training rows in an order of the seed and the epoch, the last batch may be short."""
        n = len(self.train_rows)
        n_batches = math.ceil(n / self.plan.n_pairs)
        epoch, place = divmod(step - 1, n_batches)
        order = np.random.default_rng([self.plan.seed, epoch]).permutation(n)
        return self.train_rows[order[place * self.plan.n_pairs : (place + 1) * self.plan.n_pairs]]

    def _step(self, step: int, rows: Rows) -> StepResult:
        torch.manual_seed(self.plan.seed * 1_000_003 + step)  # for dropout, which is then the same after a resume
        self.net.train()
        share = learning_rate_share(step, n_warmup=self.plan.n_warmup, n_steps=self.plan.n_steps)
        set_learning_rates(self.optimizer, share)
        total_weight = float(self.data.targets.weight[rows].sum())
        losses, margins = [], np.zeros(len(rows))
        for group in length_batches(self.lengths[rows], self.plan.token_budget, is_padded=False):
            self.ctx.checkpoint()
            loss, margins[group] = self._backward(rows[group], total_weight)
            losses.append(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.max_grad_norm)
        self._insist_finite(step, sum(losses), float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        preferred = np.sign(self.data.targets.target[rows] - 0.5) * margins
        return StepResult(
            loss=sum(losses),
            n_right=int((preferred > 0).sum()),
            margin_mean=float(preferred.mean()),
            grad_norm=float(norm),
            n_tokens=int(self.lengths[rows].sum()),
        )

    def _backward(self, rows: Rows, total_weight: float) -> tuple[float, NDArray[np.float64]]:
        """Add the gradient of these pairs' share of the batch loss; that share and the margins r_a - r_b."""
        responses = [self.data.a[i] for i in rows] + [self.data.b[i] for i in rows]
        rewards_a, rewards_b = self.net.forward_bucketed(responses, self.plan.token_budget).chunk(2)
        loss: Tensor = self.objective.loss(rewards_a, rewards_b, self.data.targets.rows(rows)).sum() / total_weight
        if loss.isfinite():
            loss.backward()  # type: ignore[no-untyped-call]
        margins = (rewards_a - rewards_b).detach().double().cpu().numpy()
        return loss.item(), margins

    def _insist_finite(self, step: int, loss: float, grad_norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        kept = self.states.newest()
        raise JobError(
            f"The {what} was no longer a finite number at step {step}.",
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
            accuracy=result.n_right / n_pairs,
            margin_mean=result.margin_mean,
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
        found = validate(self.net, self.objective, self.data, self.validation_rows, budget=self.plan.token_budget)
        self.ctx.metric(step, **found.as_metrics())
        self.progress.last = found.as_json(step)
        if self.progress.best is None or found.loss < self.progress.best["loss"]:
            self.progress.best, self.progress.best_step, self.progress.n_worse = found.as_json(step), step, 0
            self.states.save_best(step, self.net)
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
