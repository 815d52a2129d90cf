"""A backbone named by folder is loaded only from folders the operator opened."""

from pathlib import Path
from typing import Any

import pytest

from annotator.errors import InvalidInput
from rmeval.models import RewardModel
from rmeval.services.reward_models import reward_model_register
from tests.factories import ProjectFactory

pytestmark = pytest.mark.django_db


def register(backbone: str) -> RewardModel:
    config = {"backbone": backbone}
    return reward_model_register(
        project=ProjectFactory.create(), name="rm", family="scalar_head", config=config, user=None
    )


@pytest.mark.parametrize("backbone", ["/etc", "~/secrets", "../var/artifacts", "var", "{allowed}/../other"])
def test_a_folder_that_is_not_open_is_refused(backbone: str, tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    (Path.cwd() / "var").mkdir(exist_ok=True)
    with pytest.raises(InvalidInput) as refused:
        register(backbone.format(allowed=tmp_path / "models"))
    assert refused.value.errors[0].pointer == "/config/backbone"
    assert not RewardModel.objects.exists()


@pytest.mark.parametrize(
    "backbone", ["{allowed}/bert", "sentence-transformers/all-MiniLM-L6-v2", "minilm", "tiny-encoder"]
)
def test_an_open_folder_and_hub_ids_pass(backbone: str, tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    assert register(backbone.format(allowed=tmp_path / "models")).pk
