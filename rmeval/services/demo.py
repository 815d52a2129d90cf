"""The demo's reward models: two baselines, and two small ones that are trained in the background."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from annotator.models import Dataset, Project, User
from rmeval.models import RewardModel
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit

BASELINES = {"Length baseline": "length", "Random baseline": "random"}
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "MiniLM on verifiable tasks": ("verifiable", {"epochs": 2, "max_steps": 160, "seed": 1}),
    "MiniLM on everyday prompts": ("everyday", {"epochs": 4, "max_steps": 100, "seed": 1}),
}
CONFIG = {"backbone": "minilm", "max_length": 256}
SLICES = ["kind", "topic"]


def demo_reward_models(*, project: Project, datasets: dict[str, Dataset], user: User, now: datetime) -> int:
    """Register what is missing and submit its runs; keys of the runs make a second call harmless. How many are new."""
    test = {"dataset": str(datasets["test"].uid)}
    n_new = 0
    for name, family in BASELINES.items():
        n_new += not RewardModel.objects.filter(project=project, name=name).exists()
        model = find_or_register(project, name, family, {}, user)
        spec = {"checkpoint": str(model.checkpoints.latest("number").uid), "source": test, "slice_by": SLICES}
        run_submit(project=project, kind="evaluate", spec=spec, user=user, now=now, idempotency_key=f"demo-{family}")
    for name, (source, settings) in TRAINED.items():
        n_new += not RewardModel.objects.filter(project=project, name=name).exists()
        model = find_or_register(project, name, "scalar_head", CONFIG, user)
        training: dict[str, Any] = {
            "reward_model": str(model.uid),
            "source": {"dataset": str(datasets[source].uid)},
            "evaluate_on": [test],
            **settings,
        }
        run_submit(
            project=project, kind="train_rm", spec=training, user=user, now=now, idempotency_key=f"demo-{source}"
        )
    return n_new


def find_or_register(project: Project, name: str, family: str, config: dict[str, Any], user: User) -> RewardModel:
    found = RewardModel.objects.filter(project=project, name=name).first()
    return found or reward_model_register(project=project, name=name, family=family, config=config, user=user)
