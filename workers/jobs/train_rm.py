"""Train a reward model on preference pairs."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from workers.accelerate_files import config_problem, suggest_configs
from workers.context import JobContext
from workers.errors import FieldProblem, SpecError
from workers.families import FAMILIES
from workers.families.base import CAPABILITIES
from workers.jobs import JOBS
from workers.jobs.base import Source, TrainingSource
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
        source: TrainingSource = Field(description="Where the pairs come from.")
        evaluate_on: list[Source] = Field(
            default=[], max_length=20, description="Sources to evaluate the new checkpoint on when training has ended."
        )
        objective: str = Field(
            default="auto",
            description="Name of a training objective; auto: the usual one of the reward model, by family and"
            " settings.",
        )
        objective_config: dict[str, Any] = Field(default={}, description="Settings of the objective.")
        learning_rate: float = Field(default=5e-5, gt=0, le=1, description="Peak learning rate of the backbone.")
        head_learning_rate: float | None = Field(
            default=None,
            gt=0,
            le=1,
            description="Peak learning rate of the reward head; empty: ten times the backbone's.",
        )
        epochs: float | None = Field(
            default=None,
            gt=0,
            le=1000,
            description="How often each training pair is seen; empty: 2, or 20 where only a head learns, on features"
            " of a frozen backbone.",
        )
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
        train_share: float = Field(
            default=1.0,
            gt=0,
            le=1,
            description="Part of the training prompts that is used; a smaller part lies within a larger one.",
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
        start_from: str | None = Field(
            default=None, description="uid of a checkpoint whose weights are the start, as in training by stages."
        )
        freeze_backbone: bool | None = Field(
            default=None,
            description="Train the head alone, on features computed once; empty: as is usual for the family.",
        )
        lora_rank: int | None = Field(
            default=None,
            ge=1,
            le=1024,
            description="Train adapters of this rank and the head instead of every weight; empty: every weight.",
        )
        lora_alpha: int | None = Field(
            default=None, gt=0, description="Scale of the adapters is alpha / rank; empty: twice the rank."
        )
        gradient_checkpointing: bool = Field(
            default=False, description="Compute layers again in the backward pass: less memory, more time."
        )
        compile: bool = Field(
            default=False, description="torch.compile the backbone of a training on a GPU. On a CPU it is left aside."
        )
        processes: int = Field(
            default=1,
            ge=1,
            le=1024,
            description="Processes that share every batch, started by accelerate launch; one a GPU.",
        )
        accelerate_config: str | None = Field(
            default=None,
            max_length=200,
            json_schema_extra=suggest_configs,
            description="Name of a configuration file of accelerate that this site offers, such as fsdp.yaml: how many "
            "processes, on which machines, and whether FSDP splits the model over them. Empty: processes alone says.",
        )
        rater_key: str | None = Field(
            default=None, max_length=200, description="Metadata key that names the rater, for figures by rater."
        )
        source_key: str | None = Field(
            default=None, max_length=200, description="Metadata key that names the source, for figures by source."
        )
        seed: int = Field(default=0, ge=0, lt=2**32, description="Same seed, same data, same machine: same weights.")

        @field_validator("objective")
        @classmethod
        def _objective_exists(cls, value: str) -> str:
            if value != "auto" and value not in OBJECTIVES:
                raise ValueError(f"There is no objective {value!r}; known: auto, {', '.join(OBJECTIVES.names())}.")
            return value

        @field_validator("objective_config")
        @classmethod
        def _objective_config_fits(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
            if info.data.get("objective", "auto") != "auto":
                try:
                    parse_spec(OBJECTIVES.get(info.data["objective"]).Config, value)
                except SpecError as error:
                    raise ValueError("; ".join(f"{e['pointer'][1:]}: {e['detail']}" for e in error.errors)) from error
            return value

    @staticmethod
    def check(spec: Any, family: str, config: Mapping[str, Any]) -> None:
        """SpecError where the family cannot be trained as the spec asks."""
        check_training(spec, family, config)

    @staticmethod
    def needs_preferences(spec: Any, family: str, config: Mapping[str, Any]) -> bool:
        """Objectives on labelled responses need none; whether the labels are there is known when they are read."""
        is_measured = hasattr(FAMILIES.get(family), "assemble")
        return not is_measured and objective_of(spec, family, config).rows == "pairs"

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from workers.nn.training_job import train

        reference = ctx.load_reward_model(spec.reward_model)
        family, objective = check_training(spec, reference.family, reference.config)
        if hasattr(family, "assemble"):
            measured: dict[str, Any] = family.assemble(
                ctx, spec, parse_spec(family.Config, reference.config, at="/reward_model")
            )
            return measured
        if spec.processes > 1 or spec.accelerate_config is not None:
            from workers.launching import train_in_processes

            return train_in_processes(ctx, spec, reference, kind=objective.rows, objective=objective.name)
        return train(ctx, spec, family, parse_spec(family.Config, reference.config, at="/reward_model"), objective)


def usual_objective(family: str, config: Mapping[str, Any]) -> str:
    """Name of the objective that auto stands for, with a reward model of this family and these settings."""
    entry: Any = FAMILIES.get(family)
    follows = getattr(entry, "usual_objective", None)
    name: str = follows(config) if follows else getattr(entry, "default_objective", "bradley_terry")
    return name


def objective_of(spec: Any, family: str, config: Mapping[str, Any]) -> Any:
    """The class of the objective of a training; `config`: settings of the reward model, which auto may follow."""
    return OBJECTIVES.get(usual_objective(family, config) if spec.objective == "auto" else spec.objective)


def check_training(spec: Any, family_name: str, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Family and objective as the spec names them, for a reward model with the settings `config`.

    SpecError where they do not go together, before a run starts. A family that is measured, not
    trained (it has `assemble`), has the objective None.
    """
    try:
        family: Any = FAMILIES.get(family_name)
    except UnknownName as error:
        raise SpecError([FieldProblem(pointer="/reward_model", code="unknown", detail=str(error))]) from error
    if not family.trainable:
        detail = f"A reward model of the family {family_name} is not made by training. Choose one of another family."
        raise SpecError([FieldProblem(pointer="/reward_model", code="not_trainable", detail=detail)])
    if hasattr(family, "assemble"):
        _check_measuring(spec, family_name)
        return family, None
    objective = objective_of(spec, family_name, config)
    lacking = sorted(objective.needs - family.capabilities)
    if lacking:
        fitting = [other for other, entry in OBJECTIVES.items() if entry.needs <= family.capabilities]
        wanted = " and ".join(CAPABILITIES[word] for word in lacking)
        detail = (
            f"The objective {objective.name} needs a family that {wanted}; "
            f"{family_name} does not. Objectives for it: {', '.join(sorted(fitting))}."
        )
        raise SpecError([FieldProblem(pointer="/objective", code="does_not_fit", detail=detail)])
    if spec.freeze_backbone and "features" not in family.capabilities:
        detail = f"The family {family_name} has no head that can be trained on its own. Leave this at no."
        raise SpecError([FieldProblem(pointer="/freeze_backbone", code="does_not_fit", detail=detail)])
    if spec.freeze_backbone is False and getattr(family, "always_frozen", False):
        detail = f"The family {family_name} leaves its backbone as it is. Leave this empty."
        raise SpecError([FieldProblem(pointer="/freeze_backbone", code="does_not_fit", detail=detail)])
    is_frozen = family.frozen if spec.freeze_backbone is None else spec.freeze_backbone
    if is_frozen and (spec.processes > 1 or spec.accelerate_config is not None):
        detail = "Processes share the work of the backbone, which is frozen in this run. Train it in one."
        pointer = "/processes" if spec.processes > 1 else "/accelerate_config"
        raise SpecError([FieldProblem(pointer=pointer, code="does_not_fit", detail=detail)])
    if problem := config_problem(spec, family_name, objective.name):
        raise SpecError([problem])
    if spec.lora_rank and (spec.freeze_backbone or (spec.freeze_backbone is None and family.frozen)):
        detail = "Adapters train the backbone, which this run leaves frozen. Set freeze_backbone to no, or no rank."
        raise SpecError([FieldProblem(pointer="/lora_rank", code="does_not_fit", detail=detail)])
    return family, objective(parse_spec(objective.Config, spec.objective_config, at="/objective_config"))


def _check_measuring(spec: Any, family_name: str) -> None:
    """Nothing is trained, so nothing that only training uses may be asked for."""
    asked = {
        "objective": spec.objective != "auto",
        "start_from": spec.start_from is not None,
        "freeze_backbone": spec.freeze_backbone is not None,
        "lora_rank": spec.lora_rank is not None,
        "processes": spec.processes > 1,
        "accelerate_config": spec.accelerate_config is not None,
    }
    detail = f"The family {family_name} is measured, not trained. Leave this as it is by default."
    problems = [
        FieldProblem(pointer=f"/{k}", code="does_not_fit", detail=detail) for k, is_set in asked.items() if is_set
    ]
    if problems:
        raise SpecError(problems)
