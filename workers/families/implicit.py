"""The reward that a policy trained by direct preference optimisation implies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from workers.errors import JobError
from workers.families import FAMILIES
from workers.families.likelihood import LikelihoodConfig, LikelihoodFamily

if TYPE_CHECKING:
    from workers.nn.backbone import Backbone
    from workers.nn.likelihood_net import LikelihoodNet
    from workers.nn.net import Dtype, Net

START, NONE = "start", "none"


@FAMILIES.add("implicit")
class ImplicitFamily(LikelihoodFamily):
    """beta times the log-ratio of a policy to its reference, summed over the response's tokens.

    Comparable only between responses to one prompt: a term that depends on the prompt alone is unknown.
    """

    title: ClassVar[str] = "Implicit (policy against reference)"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "likelihood", "per_token", "split"}
    )
    default_objective: ClassVar[str] = "dpo"

    class Config(LikelihoodConfig):
        """Which policy, and against what."""

        beta: float = Field(default=0.1, gt=0, le=100, description="Scale of the reward. It changes no decision.")
        reference: str = Field(
            default=START,
            min_length=1,
            max_length=300,
            description="start: a frozen copy of the model that training starts from. none: no reference, the reward is"
            " beta times the log-likelihood. Else the id or folder of a model shaped like the policy; a policy that was"
            " trained elsewhere is then scored without training.",
        )

        @field_validator("reference")
        @classmethod
        def _is_a_place(cls, value: str) -> str:
            if value != value.strip() or "\x00" in value:
                raise ValueError("a name or path without spaces around it")
            return value

    @classmethod
    def build(cls, config: Any, backbone: "Backbone", **options: Any) -> "LikelihoodNet":
        return super().build(config, backbone, beta=config.beta, **options)

    @classmethod
    def net(cls, config: Any, backbone: "Backbone", *, dtype: "Dtype" = "float32") -> "Net":
        from copy import deepcopy

        from workers.nn.causal_lm import with_lm_head

        with_lm_head(backbone)
        if config.reference == NONE:
            return cls.build(config, backbone, dtype=dtype)
        if config.reference == START:
            net = cls.build(config, backbone, reference=deepcopy(backbone.model), dtype=dtype)
            net.reference_is_start = True
            return net
        return cls.build(config, backbone, reference=_reference(config.reference, backbone), dtype=dtype)

    @classmethod
    def adopt(cls, net: Any, weights: Any, family: str) -> str:
        told = super().adopt(net, weights, family)
        if not net.reference_is_start:
            return told
        net.renew_reference()
        return f"{told}, which is also the reference"

    @classmethod
    def opened(cls, config: Any, path: Path | None, *, per_token: bool) -> "tuple[LikelihoodNet, Backbone]":
        """As every likelihood; without a checkpoint the policy is the backbone, where a reference is named."""
        if path is not None:
            net, backbone = super().opened(config, path, per_token=per_token)
        else:
            if config.reference in (START, NONE):
                raise JobError(
                    "This reward model has no weights yet.",
                    "Train it first; or name a reference, so that the backbone is scored against it as it is.",
                )
            backbone = cls.load_backbone(config)
            reference = _reference(config.reference, backbone)
            options = {"reference": reference, "per_token": per_token, "dtype": config.scoring_dtype}
            net = cls.build(config, backbone, **options)
        if net.is_its_reference():
            raise JobError(
                "Policy and reference are the same model: every reward is 0 and every pair a tie.",
                "Train the policy, or name the model it was trained from as the reference.",
            )
        return net, backbone


def _reference(name: str, policy: "Backbone") -> Any:
    """Another model to compare the policy with: same shape, same tokens. JobError where it is not."""
    from workers.data.vocabularies import tokenizer_difference
    from workers.nn.causal_lm import load_causal_lm

    found = load_causal_lm(name)
    if difference := tokenizer_difference(policy.tokenizer, found.tokenizer, names=("policy", "reference")):
        raise JobError(difference, "A log-ratio needs two models that read the same tokens: choose another reference.")
    own, other = ({n: t.shape for n, t in m.state_dict().items()} for m in (policy.model, found.model))
    if own != other:
        raise JobError(
            f"The reference {name} is of another shape than the policy.",
            "The reference is the model that the policy was trained from.",
        )
    return found.model
