"""The tables of reward-model evaluation. Import models from here."""

from rmeval.models.comparison import Evaluation
from rmeval.models.pair_edit import PairEdit
from rmeval.models.reward_model import Checkpoint, RewardModel, Score
from rmeval.models.run import Artifact, Run, RunEvent, WorkerHeartbeat

__all__ = [
    "Artifact",
    "Checkpoint",
    "Evaluation",
    "PairEdit",
    "RewardModel",
    "Run",
    "RunEvent",
    "Score",
    "WorkerHeartbeat",
]
