"""Bradley-Terry taken at weights that tell samples of the present policy apart."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from workers.context import JobContext
from workers.data.render import Encoded
from workers.errors import JobError
from workers.families.base import Item
from workers.jobs.base import Source
from workers.objectives import OBJECTIVES
from workers.objectives.base import Rows
from workers.objectives.bradley_terry import BradleyTerry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.nn.meta_samples import SampleSet
    from workers.nn.net import Net
    from workers.nn.units import UnitData
    from workers.nn.view import BatchView

REPORTED = 512
NO_SAMPLES = "Set samples in objective_config to a dataset of responses of the policy, or both weights to 0."


@OBJECTIVES.add("meta_bt")
class MetaBradleyTerry(BradleyTerry):
    """Each step first moves the weights so that samples of one prompt get different rewards, then takes the gradient.

    That gradient of the Bradley-Terry loss is applied to the weights from before. Samples are responses of the
    present policy without any label; with them the model stays able to tell apart what the policy writes now.
    spread_weight asks for that in the loss itself.
    """

    title: ClassVar[str] = "Bradley-Terry that looks at new samples"
    is_one_pass: ClassVar[bool] = False

    class Config(BradleyTerry.Config):
        """Settings of the Bradley-Terry loss, and of the step before it."""

        samples: Source | None = Field(
            default=None,
            description="Source of unlabelled responses, several to a prompt. Needed unless both of the next are 0.",
        )
        step_size: float = Field(
            default=0.01, ge=0, le=100, description="Length of the step uphill, times the gradient; 0: no step."
        )
        spread_weight: float = Field(
            default=0.0,
            ge=0,
            le=100,
            description="Weight of how far apart samples of a prompt are rated, taken from the loss; 0 as published.",
        )
        prompts_per_step: int = Field(default=8, ge=1, le=4096, description="Prompts whose samples a step looks at.")
        sample_seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of which prompts a step looks at.")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.samples: SampleSet | None = None
        self.budget = 2048
        self._told: dict[str, float] = {}

    @staticmethod
    def lacks(config: Any) -> tuple[str, str] | None:
        """Setting and reason why a training could not begin, told before it starts."""
        if looks_at_samples(config) and config.samples is None:
            return "samples", NO_SAMPLES
        return None

    def gather(self, ctx: JobContext, encode: Callable[[Sequence[Item]], Sequence[Encoded]]) -> None:
        """Read the samples. Called once, before training."""
        from workers.nn.meta_samples import read_samples

        if not looks_at_samples(self.config):
            return
        if self.config.samples is None:
            raise JobError("The objective meta_bt has no samples to look at.", NO_SAMPLES)
        query = self.config.samples.query()
        self.samples = read_samples(ctx.open_input("labelled", source=query), encode, tick=ctx.checkpoint)
        n = sum(len(group) for group in self.samples.groups)
        ctx.log(f"{n} samples of {len(self.samples.groups)} prompts to tell apart")
        for reason, count in self.samples.left_out.items():
            ctx.log(f"Left out of the samples: {count} {reason}", "warning")

    def begin(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> None:
        self.budget = budget
        if self.samples is not None and data.features is not None:
            self.samples.freeze(net, budget=budget)

    def around_step(self, net: "Net", step: int) -> AbstractContextManager[None]:
        if self.samples is None or not looks_at_samples(self.config):
            return nullcontext()
        return self._uphill(net, step, self.samples)

    @contextmanager
    def _uphill(self, net: "Net", step: int, samples: "SampleSet") -> "Iterator[None]":
        from workers.nn.meta_samples import moved_uphill

        c = self.config
        groups = samples.draw(c.prompts_per_step, np.random.default_rng([c.sample_seed, step]))

        def value() -> Any:
            return samples.mean_discrimination(net, groups, budget=self.budget)

        with moved_uphill(net, value, step_size=c.step_size, weight=c.spread_weight) as found:
            self._told = {"discrimination": found}
            yield

    def step_metrics(self, view: "BatchView") -> dict[str, float]:
        return {**super().step_metrics(view), **self._told}

    def finish(self, net: "Net", data: "UnitData", rows: Rows, *, budget: int) -> dict[str, Any]:
        """J on the samples at the end, of at most 512 prompts."""
        if self.samples is None:
            return {}
        import torch

        net.eval()
        with torch.inference_mode():
            groups = self.samples.groups[:REPORTED]
            found = float(self.samples.mean_discrimination(net, groups, budget=budget))
        return {"discrimination": found, "n_sample_prompts": len(self.samples.groups)}


def looks_at_samples(config: "MetaBradleyTerry.Config") -> bool:
    return bool(config.step_size or config.spread_weight)
