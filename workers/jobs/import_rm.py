"""Take a public reward model as it is: its weights become a checkpoint that gives the same rewards."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from workers.context import JobContext, RewardModelRef
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.families.attributes import MOST
from workers.jobs import JOBS
from workers.specs import SpecModel

MAY_DIFFER = frozenset({"backbone", "max_length", "dropout", "scoring_dtype", "rendering", "weights", "aggregation"})


@JOBS.add("import_rm")
class ImportRewardModel:
    """Read a public reward model from the hub or a folder, and keep it as a checkpoint.

    Of a classifier one label becomes a scalar head, several become attributes, labels of tokens a process reward
    model; heads of other classes are known by their tensors (value and regression heads, ArmoRM's gate), and the
    logits of tokens by the tokens' names. Weights come from safetensors and code that comes with a model is never run.
    What gives other rewards than the model's own class, or its published formula, is refused.
    """

    title: ClassVar[str] = "Import a reward model"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """Which model, and as what."""

        model: str = Field(min_length=1, max_length=300, description="Hugging Face id, or path of a local folder.")
        name: str = Field(
            default="", max_length=200, description="Of the reward model here; empty: the last part of the id or path."
        )
        revision: str | None = Field(
            default=None, max_length=100, description="Branch, tag or commit on the hub; empty: the main branch."
        )
        family: Literal["auto", "scalar_head", "multi_attribute", "gated", "process"] = Field(
            default="auto", description="auto: what the labels of the model say."
        )
        max_length: int = Field(
            default=2048, ge=16, le=131072, description="Tokens read at most; never more than the model's context."
        )
        rendering: Literal["auto", "chat_template", "plain"] = Field(
            default="auto", description="How a conversation becomes text. auto: the model's chat template, if any."
        )
        weights: dict[str, float] = Field(
            default={},
            description="Of a model with several labels: the weight of each in the reward. Empty, with two labels taken"
            " as one scalar_head: the right one less the other.",
        )
        attributes: list[str] = Field(
            default=[],
            max_length=MOST,
            description="Of a model with several outputs that it does not name: the name of each, in order.",
        )
        step_mark: str = Field(
            default="",
            max_length=100,
            description="Of a process reward model: the text after every step at which it is read, with \\s for a space"
            " and \\n for a line break. Empty: <extra_0> where the model knows it, else the step's own last token.",
        )
        step_answer: str = Field(
            default="",
            max_length=20,
            description="Of a process reward model that is asked turn by turn: the answer to a right step, such as + of"
            " RLHFlow's. Empty: steps stay in one response.",
        )
        right_token: str = Field(
            default="",
            max_length=50,
            description="Of a language model whose reward is the logit of a token: that token, such as + of a right"
            " step. Empty: the model has a head.",
        )
        wrong_token: str = Field(
            default="", max_length=50, description="The token whose logit is taken off, such as - of a wrong step."
        )
        chat_template: str = Field(
            default="",
            max_length=20_000,
            description="Jinja template of its training, where the model comes without one. It is kept with the"
            " checkpoint. Empty: the model's own.",
        )
        reward_model: str | None = Field(
            default=None,
            description="uid of a reward model of the same shape that gets the checkpoint; empty: a new one.",
        )

        @field_validator("model")
        @classmethod
        def _is_a_name(cls, value: str) -> str:
            if value != value.strip() or "\x00" in value:
                raise ValueError("a name or path without spaces around it")
            return value

        @model_validator(mode="after")
        def _is_told_once(self) -> Self:
            if self.reward_model and self.name:
                raise ValueError("name is for a new reward model, and reward_model names one that is there")
            return self

    @staticmethod
    def needs_preferences(*_: Any) -> bool:
        return False

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        from workers.nn.backbone import licence_named
        from workers.nn.checkpoints import count_parameters
        from workers.nn.importing import find, import_model, store

        keep_freed_memory()
        ctx.progress(0, 3, f"Loading {spec.model}")
        tokens = {"right": spec.right_token, "wrong": spec.wrong_token}
        found = find(spec.model, spec.revision, wanted=spec.family, template=spec.chat_template, **tokens)
        ctx.checkpoint()
        ctx.progress(1, 3, "Asking the model's own class for rewards")
        told = spec.model_dump(include={"weights", "attributes", "step_mark", "step_answer"})
        settings = {name: value for name, value in told.items() if value}
        settings |= {"max_length": spec.max_length, "rendering": spec.rendering}
        imported = import_model(found, spec.family, settings)
        ctx.checkpoint()
        ctx.progress(2, 3, "Saving and checking the checkpoint")
        origin = {"model": spec.model, "revision": spec.revision, "class": found.class_name}
        origin |= {"commit": found.commit, "licence": licence_named(spec.model, spec.revision)}
        folder = ctx.work_dir / "checkpoint"
        difference = store(imported, folder, origin)
        config = imported.config.model_dump(mode="json")
        model = home(ctx, spec, imported.family.name, config)
        for note in imported.notes:
            ctx.log(note, "warning")
        uid = ctx.save_artifact(folder, kind="checkpoint", name="checkpoint", meta={"imported_from": origin})
        ctx.progress(3, 3, "Imported")
        return {
            "checkpoint": uid,
            "reward_model": model.uid,
            "family": imported.family.name,
            "imported_from": origin,
            "probe_difference": difference,
            "notes": imported.notes,
            "n_parameters": count_parameters(imported.net),
            "peak_rss_mib": round(peak_rss_mib()),
            "environment": describe_environment(),
        }


def home(ctx: JobContext, spec: Any, family: str, config: dict[str, Any]) -> RewardModelRef:
    """The reward model that the checkpoint belongs to: a new one, or one that is there and has the same shape."""
    if spec.reward_model is None:
        name = spec.name or spec.model.rstrip("/").rsplit("/", 1)[-1]
        return ctx.make_reward_model(name=name, family=family, config=config)
    model = ctx.load_reward_model(spec.reward_model)
    if model.family != family:
        raise JobError(
            f"{spec.model} is imported as {family}; the reward model that was named is of the family {model.family}.",
            "Name another one, or none: then a new reward model is made.",
        )
    differing = sorted(n for n in config if n not in MAY_DIFFER and model.config.get(n, config[n]) != config[n])
    if differing:
        told = "; ".join(f"{n} is {model.config[n]}, not {config[n]}" for n in differing)
        raise JobError(f"The reward model that was named has another shape: {told}.", "Name another one, or none.")
    return model
