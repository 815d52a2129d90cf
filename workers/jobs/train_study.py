"""Several trainings as one question: is A better than B, which settings are best, what would more data bring?"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workers.arm_context import ArmContext
from workers.context import JobContext
from workers.errors import FieldProblem, JobError, SpecError
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.jobs.train_rm import TrainRewardModel, check_training
from workers.specs import SpecModel, parse_spec
from workers.stats.study import study_summary
from workers.stats.study_sources import source_differences

MOST_RUNS = 500
MOST_CHARACTERS = 80
"""Of the name of an arm."""


class Arm(SpecModel):
    """One way of training that is compared with others."""

    name: str = Field(min_length=1, max_length=MOST_CHARACTERS, description="Shown in the table and the plots.")
    settings: dict[str, Any] = Field(default={}, description="Settings of train_rm that this arm changes.")
    config: dict[str, Any] = Field(default={}, description="Settings of the reward model that this arm changes.")


NOTHING_HELD_OUT = FieldProblem(
    pointer="/validation_share",
    code="does_not_fit",
    detail="A study compares by what is held out: a share above 0 is needed.",
)


OTHER_MEASURE = FieldProblem(
    pointer="/arms",
    code="does_not_fit",
    detail="Some of these arms learn from preferences and are measured by accuracy, others from ratings or labels and"
    " are measured by their loss. Train both kinds, then evaluate the checkpoints on the same pairs.",
)


OBJECTIVE = "objective_config."


@dataclass(frozen=True)
class Planned:
    """One training of the study."""

    arm: Arm
    seed: int

    @property
    def key(self) -> str:
        return f"{self.arm.name} / seed {self.seed}"


@JOBS.add("train_study")
class TrainStudy:
    """Train several ways under the same seeds, hold out the same prompts, and compare pair by pair of runs.

    "No difference shown" is one of the answers. Each training is saved when it ends, so that a killed study goes on
    with the next. Trained reward models become checkpoints only where that is asked for.
    """

    title: ClassVar[str] = "Compare ways of training"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """What to train, and what to vary."""

        reward_model: str = Field(description="uid of the reward model whose family and settings are the start.")
        source: Source = Field(description="Where the pairs or labelled responses come from.")
        question: Literal["compare", "grid", "learning_curve"] = Field(
            default="compare", description="Compare named arms, try every combination of settings, or vary the data."
        )
        arms: list[Arm] = Field(default=[], max_length=50, description="For compare: the first is the baseline.")
        grid: dict[str, list[Any]] = Field(
            default={},
            description="For grid: values by setting; config.NAME for one of the reward model, objective_config.NAME"
            " for one of the objective.",
        )
        shares: list[float] = Field(
            default=[0.1, 0.25, 0.5, 1.0], max_length=20, description="For learning_curve: parts of the training data."
        )
        settings: dict[str, Any] = Field(
            default={},
            description="Settings of train_rm that all arms share; objective_config.NAME for the objective's.",
        )
        n_seeds: int = Field(default=3, ge=1, le=100, description="Trainings of every arm, seeds 0, 1, 2, ...")
        keep_checkpoints: bool = Field(default=False, description="Keep every trained reward model as a checkpoint.")

        @model_validator(mode="after")
        def _asks_something(self) -> Self:
            if self.question == "compare" and len(self.arms) < 2:
                raise ValueError("A comparison needs two arms or more.")
            if self.question == "grid" and not any(len(values) > 1 for values in self.grid.values()):
                raise ValueError("A grid needs a setting with two values or more.")
            if self.question == "learning_curve" and not all(0 < share <= 1 for share in self.shares):
                raise ValueError("Shares lie above 0 and at most at 1.")
            names = [arm.name for arm in arms_of(self)]
            if not names:
                raise ValueError("There is nothing to train: a list of shares or of values is empty.")
            if len(set(names)) < len(names):
                raise ValueError("Two arms have the same name.")
            n = len(names) * self.n_seeds
            if n > MOST_RUNS:
                raise ValueError(f"These are {n} trainings; {MOST_RUNS} are allowed in one study.")
            return self

    @staticmethod
    def check(spec: Any, family: str, config: Mapping[str, Any] | None = None) -> None:
        """Every arm must be a training that could start; with the reward model's `config`, together with it."""
        objectives = [arm_spec(spec, arm, 0, family, config=config)[1] for arm in arms_of(spec)]
        if len({objective.rows for objective in objectives}) > 1:
            raise SpecError([OTHER_MEASURE])

    @staticmethod
    def needs_preferences(*_: Any) -> bool:
        return False

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        model = ctx.load_reward_model(spec.reward_model)
        self.check(spec, model.family, model.config)
        planned = [Planned(arm, seed) for arm in arms_of(spec) for seed in range(spec.n_seeds)]
        rows = []
        for number, one in enumerate(planned):
            ctx.checkpoint()
            ctx.progress(number, len(planned), f"Training {number + 1} of {len(planned)}: {one.key}")
            rows.append(_result(ctx, spec, one, model, place=(number, len(planned))))
            check_matched(rows, {arm.name: arm for arm in arms_of(spec)})
            ctx.metric(number + 1, study_accuracy=rows[-1]["value"])
        shutil.rmtree(ctx.work_dir / "features", ignore_errors=True)
        ctx.progress(len(planned), len(planned), f"All {len(planned)} trainings done")
        names = [arm.name for arm in arms_of(spec)]
        by_source = source_differences(rows, names)
        return {
            "question": spec.question,
            "runs": rows,
            **study_summary(rows, names),
            **({"by_source": by_source} if by_source else {}),
            "arms": _described(spec),
        }


def arms_of(spec: Any) -> Iterator[Arm]:
    """The arms of a study, made from its grid or shares where they are not named."""
    if spec.question == "compare":
        yield from spec.arms
    elif spec.question == "learning_curve":
        for share in spec.shares:
            name = "all of the data" if share == 1 else f"{share * 100:.6g}% of the data"
            yield Arm(name=name, settings={"train_share": share})
    else:
        for number, values in enumerate(product(*spec.grid.values()), start=1):
            chosen = dict(zip(spec.grid, values, strict=True))
            name = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in chosen.items())
            yield Arm(
                name=name if len(name) <= MOST_CHARACTERS else f"{number}: {name}"[:MOST_CHARACTERS],
                settings={name: value for name, value in chosen.items() if not name.startswith("config.")},
                config={name[7:]: value for name, value in chosen.items() if name.startswith("config.")},
            )


def joined(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those named objective_config.NAME put into the objective's own."""
    whole = {name: value for name, value in settings.items() if not name.startswith(OBJECTIVE)}
    own = {name.removeprefix(OBJECTIVE): value for name, value in settings.items() if name.startswith(OBJECTIVE)}
    given = whole.get("objective_config") or {}
    return {**whole, "objective_config": {**given, **own}} if own and isinstance(given, dict) else whole


def arm_spec(
    spec: Any, arm: Arm, seed: int, family: str, *, config: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """The spec of train_rm and the objective of one training; SpecError names the arm that is wrong.

    Settings of the reward model are checked one by one; whether they go together, only beside the rest of `config`.
    """
    raw = {
        "reward_model": spec.reward_model,
        "source": spec.source.query(),
        **joined({**spec.settings, **arm.settings}),
        "seed": seed,
    }
    try:
        parsed = parse_spec(TrainRewardModel.Spec, raw)
        _, objective = check_training(parsed, family, {**(config or {}), **arm.config})
        if not parsed.validation_share:
            raise SpecError([NOTHING_HELD_OUT])
        _check_config(FAMILIES.get(family).Config, arm.config, config)
    except SpecError as error:
        problems = [
            FieldProblem(pointer="/arms", code=e["code"], detail=f"{arm.name}, {e['pointer'][1:]}: {e['detail']}")
            for e in error.errors
        ]
        raise SpecError(problems) from error
    if objective is None:
        detail = f"A reward model of the family {family} is measured, not trained: compare its members instead."
        raise SpecError([FieldProblem(pointer="/reward_model", code="not_trainable", detail=detail)])
    return parsed, objective


def _check_config(model: Any, changes: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    try:
        parse_spec(model, {**(config or {}), **changes}, at="/config")
    except SpecError as error:
        own = [e for e in error.errors if config is not None or e["pointer"].split("/")[2:3] in [[c] for c in changes]]
        if own:
            raise SpecError(own) from error


def _result(ctx: JobContext, spec: Any, one: Planned, model: Any, *, place: tuple[int, int]) -> dict[str, Any]:
    """Train one arm under one seed, or read what an earlier attempt has saved of it."""
    from workers.nn.latency import seconds_per_response
    from workers.nn.training_job import train

    folder = ctx.work_dir / f"arm-{place[0]:04d}"
    saved = folder / "result.json"
    if saved.is_file():
        found: dict[str, Any] = json.loads(saved.read_text())
        return found
    family: Any = FAMILIES.get(model.family)
    parsed, objective = arm_spec(spec, one.arm, one.seed, model.family, config=model.config)
    config = parse_spec(family.Config, {**model.config, **one.arm.config}, at="/reward_model")
    inner = ArmContext(ctx, folder, place, one.key, keeps=spec.keep_checkpoints)
    result = train(inner, parsed, family, config, objective)
    latency_s = seconds_per_response(folder / "checkpoint", family, config)
    row = {"arm": one.arm.name, "seed": one.seed, **_figures(result), "seconds_per_response": latency_s}
    saved.write_text(json.dumps(row))
    _clear(folder)
    return row


def check_matched(rows: Sequence[Mapping[str, Any]], arms: Mapping[str, Arm]) -> None:
    """JobError where an arm with a source of its own has other prompts than the first arm: that is no comparison.

    Arms of one source are matched as they are, whatever their settings leave out of it.
    """
    first, last = rows[0], rows[-1]
    same = arms[first["arm"]].settings.get("source") == arms[last["arm"]].settings.get("source")
    if same or first.get("prompts_sha256") == last.get("prompts_sha256"):
        return
    raise JobError(
        f"{first['arm']} and {last['arm']} were not trained and measured on the same prompts"
        f" ({first['n_train'] + first['n_validation']} and {last['n_train'] + last['n_validation']} units),"
        " so that a difference could come from the data alone.",
        "Give both arms sources with the same prompts, or train them apart and evaluate both on one set of pairs.",
    )


def _figures(result: Mapping[str, Any]) -> dict[str, Any]:
    told = result["validation_best"] or result["validation_final"]
    if not told:
        raise JobError(
            "A training of this study held nothing out to measure it by: all of its data is of one prompt.",
            "Choose a source with several prompts.",
        )
    accuracy = told.get("accuracy")
    if "accuracy" in told and accuracy is None:
        raise JobError(
            "A training of this study held out ties alone, so there is no accuracy to compare.",
            "Raise validation_share, or leave ties out of the objective.",
        )
    return {
        "value": accuracy["value"] if accuracy else -told["loss"],
        "metric": "accuracy" if accuracy else "negative loss",
        "n_validation": result["n_validation"],
        "n_train": result["n_train"],
        "prompts_sha256": result["prompts_sha256"],
        "loss": told["loss"],
        "ece": told.get("ece"),
        **({"by_source": told["by_source"]} if "by_source" in told else {}),
        "seconds": result["seconds"],
        "peak_rss_mib": result["peak_rss_mib"],
        "checkpoint": result["checkpoint"] or None,
    }


def _described(spec: Any) -> list[dict[str, Any]]:
    return [arm.model_dump(mode="json") for arm in arms_of(spec)]


def _clear(folder: Path) -> None:
    """States and features of a training that has ended; its result stays."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
