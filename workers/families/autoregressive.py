"""The autoregressive reward model: the log-likelihood of the response under a small language model."""

from typing import ClassVar

from workers.families import FAMILIES
from workers.families.likelihood import LikelihoodConfig, LikelihoodFamily


@FAMILIES.add("autoregressive")
class AutoregressiveFamily(LikelihoodFamily):
    """The reward is the sum of log-probabilities of the response's tokens, so every beginning of it has a reward.

    Trained on pairs without a reference model. It can guide the decoding of another language model token by token.
    """

    title: ClassVar[str] = "Autoregressive (likelihood)"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"pointwise", "trainable", "tokens", "likelihood", "per_token", "split"}
    )
    default_objective: ClassVar[str] = "likelihood_bt"

    class Config(LikelihoodConfig):
        """What the reward model is made of."""
