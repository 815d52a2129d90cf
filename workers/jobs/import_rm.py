"""Take a public reward model as it is: its weights become a checkpoint that gives the same rewards."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from workers.context import JobContext, RewardModelRef
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.errors import JobError
from workers.jobs import JOBS
from workers.specs import SpecModel

MAY_DIFFER = frozenset({"backbone", "max_length", "dropout", "scoring_dtype", "rendering", "weights", "aggregation"})


@JOBS.add("import_rm")
class ImportRewardModel:
    """Read a classifier of transformers from the hub or a folder, and keep it as a checkpoint.

    One label becomes a scalar head, several become attributes, labels of tokens a process reward model. Weights come
    from safetensors and code that comes with a model is never run. What gives other rewards than the model's own
    class is refused.
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
        family: Literal["auto", "scalar_head", "multi_attribute", "process"] = Field(
            default="auto", description="auto: what the labels of the model say."
        )
        max_length: int = Field(
            default=2048, ge=16, le=131072, description="Tokens read at most; never more than the model's context."
        )
        rendering: Literal["auto", "chat_template", "plain"] = Field(
            default="auto", description="How a conversation becomes text. auto: the model's chat template, if any."
        )
        weights: dict[str, float] = Field(
            default={}, description="Of a model with several labels: the weight of each in the reward."
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
        from workers.nn.checkpoints import count_parameters
        from workers.nn.importing import find, import_model, store

        keep_freed_memory()
        ctx.progress(0, 3, f"Loading {spec.model}")
        found = find(spec.model, spec.revision)
        ctx.checkpoint()
        ctx.progress(1, 3, "Asking the model's own class for rewards")
        settings = {"max_length": spec.max_length, "rendering": spec.rendering}
        imported = import_model(found, spec.family, {**settings, **({"weights": spec.weights} if spec.weights else {})})
        ctx.checkpoint()
        ctx.progress(2, 3, "Saving and checking the checkpoint")
        origin = {"model": spec.model, "revision": spec.revision, "class": type(found.model).__name__}
        origin["commit"] = getattr(found.model.config, "_commit_hash", None)
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
