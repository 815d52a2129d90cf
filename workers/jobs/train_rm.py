"""Train a reward model on preference pairs."""

from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from workers.context import JobContext
from workers.errors import FieldProblem, JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.objectives import OBJECTIVES
from workers.registry import UnknownName
from workers.specs import SpecModel, parse_spec


@JOBS.add("train_rm")
class TrainRewardModel:
    """Fit a reward model to the pairs of a dataset or snapshot; part of the prompts is held out to validate it."""

    title: ClassVar[str] = "Train a reward model"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """What to train on, and how."""

        reward_model: str = Field(description="uid of the reward model to train.")
        source: Source = Field(description="Where the pairs come from.")
        evaluate_on: list[Source] = Field(
            default=[], max_length=20, description="Sources to evaluate the new checkpoint on when training has ended."
        )
        objective: str = Field(default="bradley_terry", description="Name of a training objective.")
        objective_config: dict[str, Any] = Field(default={}, description="Settings of the objective.")
        learning_rate: float = Field(default=5e-5, gt=0, le=1, description="Peak learning rate of the backbone.")
        head_learning_rate: float | None = Field(
            default=None,
            gt=0,
            le=1,
            description="Peak learning rate of the reward head; empty: ten times the backbone's.",
        )
        epochs: float = Field(default=2, gt=0, le=1000, description="How often each training pair is seen.")
        max_steps: int | None = Field(
            default=None, ge=1, description="Stop after so many optimiser steps at the latest."
        )
        batch_pairs: int = Field(default=16, ge=1, le=4096, description="Pairs in a batch.")
        accumulation: int = Field(default=1, ge=1, le=1024, description="Batches to one optimiser step.")
        warmup_share: float = Field(default=0.1, ge=0, lt=1, description="Part of the steps in which the rate rises.")
        weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW; not applied to biases and norms.")
        max_grad_norm: float = Field(default=1.0, gt=0, description="Longer gradients are clipped to this length.")
        validation_share: float = Field(
            default=0.1, ge=0, lt=1, description="Part of the prompts that is held out to validate on."
        )
        eval_every: int | None = Field(
            default=None, ge=1, description="Validate every so many steps; empty: ten times in the run."
        )
        checkpoint_every: int = Field(
            default=20, ge=1, description="Save every so many steps what is needed to go on after a crash."
        )
        early_stop_patience: int | None = Field(
            default=None, ge=1, description="Stop after so many validations in a row without a lower loss."
        )
        keep: Literal["best", "last"] = Field(
            default="best", description="Keep the weights with the lowest validation loss, or those of the last step."
        )
        token_budget: int = Field(
            default=2048, ge=16, description="Tokens computed at once. Less needs less memory and changes no result."
        )
        dtype: Literal["auto", "float32", "bf16"] = Field(
            default="auto", description="Precision of the backbone; auto: bf16 where the hardware is faster with it."
        )
        seed: int = Field(default=0, ge=0, lt=2**32, description="Same seed, same data, same machine: same weights.")

        @field_validator("objective")
        @classmethod
        def _objective_exists(cls, value: str) -> str:
            if value not in OBJECTIVES:
                raise ValueError(f"There is no objective {value!r}; known: {', '.join(OBJECTIVES.names())}.")
            return value

        @field_validator("objective_config")
        @classmethod
        def _objective_config_fits(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
            if "objective" in info.data:
                try:
                    parse_spec(OBJECTIVES.get(info.data["objective"]).Config, value)
                except SpecError as error:
                    raise ValueError("; ".join(f"{e['pointer'][1:]}: {e['detail']}" for e in error.errors)) from error
            return value

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from workers.nn.training_job import train

        reference = ctx.load_reward_model(spec.reward_model)
        try:
            family: Any = FAMILIES.get(reference.family)
        except UnknownName as error:
            raise SpecError([FieldProblem(pointer="/reward_model", code="unknown", detail=str(error))]) from error
        if not family.trainable:
            raise JobError(
                f"A reward model of the family {reference.family} is a rule: there is nothing to train.",
                "Choose a reward model of a trainable family, such as scalar_head.",
            )
        objective_type: Any = OBJECTIVES.get(spec.objective)
        objective = objective_type(parse_spec(objective_type.Config, spec.objective_config, at="/objective_config"))
        return train(ctx, spec, family, parse_spec(family.Config, reference.config, at="/reward_model"), objective)
