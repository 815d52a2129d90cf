"""A backbone named by folder is loaded only from folders the operator opened."""

import json
from pathlib import Path
from typing import Any

import pytest

from annotator.errors import InvalidInput
from rmeval.backbones import BUILT_IN, is_hub_id
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
    (tmp_path / "models" / "bert").mkdir(parents=True)
    (tmp_path / "models" / "bert" / "config.json").write_text("{}")
    assert register(backbone.format(allowed=tmp_path / "models")).pk


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        ("{allowed}/missing", "holds no config.json"),
        ("{allowed}", "holds no config.json"),
        ("no-such-model", "no backbone called no-such-model"),
        ("gpt2", "openai-community/gpt2"),
        ("MiniLM", "Give minilm, tiny-encoder or tiny-causal"),
        ("owner/name/more", "no backbone called"),
        ("owner/na me", "no backbone called"),
        ("-owner/name", "no backbone called"),
        ("owner/name..git", "no backbone called"),
    ],
)
def test_what_cannot_exist_is_refused(backbone: str, says: str, tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    (tmp_path / "models").mkdir()
    with pytest.raises(InvalidInput, match=says) as refused:
        register(backbone.format(allowed=tmp_path / "models"))
    assert refused.value.errors[0].pointer == "/config/backbone"
    assert not RewardModel.objects.exists()


def implicit(backbone: Path, reference: str) -> RewardModel:
    config = {"backbone": str(backbone), "reference": reference}
    return reward_model_register(
        project=ProjectFactory.create(), name="rm", family="implicit", config=config, user=None
    )


def language_model(folder: Path, vocabulary: dict[str, int]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    return folder


def test_a_reference_is_held_to_the_same_folders(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    policy = language_model(tmp_path / "models" / "policy", {"a": 0})
    elsewhere = language_model(tmp_path / "elsewhere", {"a": 0})
    for reference, says in ((str(elsewhere), "not open to this site"), ("nobody", "no reference called nobody")):
        with pytest.raises(InvalidInput, match=says) as refused:
            implicit(policy, reference)
        assert refused.value.errors[0].pointer == "/config/reference"
    assert not RewardModel.objects.exists()


def test_a_reference_with_other_tokens_is_refused(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    policy = language_model(tmp_path / "models" / "policy", {"a": 0, "b": 1})
    other = language_model(tmp_path / "models" / "other", {"a": 1, "b": 0})
    with pytest.raises(InvalidInput, match=r"tokenizers \(both of 2 tokens, first mismatch at id 0") as refused:
        implicit(policy, str(other))
    assert (refused.value.errors[0].pointer, refused.value.errors[0].code) == ("/config/reference", "other_tokenizer")
    (other / "tokenizer.json").write_text("not JSON")  # what that is, the run says when it opens both
    assert implicit(policy, str(other)).pk


@pytest.mark.parametrize("reference", ["start", "none", "owner/name", "{models}/policy"])
def test_references_that_pass(reference: str, tmp_path: Path, settings: Any) -> None:
    settings.MODEL_DIRS = [tmp_path / "models"]
    policy = language_model(tmp_path / "models" / "policy", {"a": 0})
    assert implicit(policy, reference.format(models=tmp_path / "models")).pk


def test_built_in_names_are_those_that_load() -> None:
    from workers.nn.tiny import TINY_NAMES

    assert set(BUILT_IN) == {"minilm", *TINY_NAMES}
    assert all(is_hub_id(name) for name in ("a/b", "answerdotai/ModernBERT-base", "Qwen/Qwen3-0.6B", "_x/y_"))
