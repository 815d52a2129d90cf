"""A checkpoint is opened only where conversations still become the token ids that it was made on."""

import json

import pytest

from tests.workers.making import LocalRun, make_pairs
from workers.errors import JobError
from workers.families import FAMILIES
from workers.nn.tiny import tiny_tokenizer
from workers.specs import parse_spec

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def trained(tmp_path, request):
    family = getattr(request, "param", "scalar_head")
    folder = tmp_path / "llama"
    from workers.nn.tiny import tiny_causal_lm

    tiny_causal_lm(is_tied=False).save_pretrained(folder)
    tokenizer = tiny_tokenizer("tiny-causal")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    run = LocalRun(tmp_path / "training", make_pairs(16), model={"backbone": str(folder)}, family=family)
    return run.checkpoints[run.train(max_steps=2, epochs=1)["checkpoint"]]


def opened(reference, **config):
    family = FAMILIES.get(reference.family)
    return family.open(parse_spec(family.Config, {**reference.config, **config}), reference.path)


@pytest.mark.parametrize("trained", ["scalar_head", "implicit"], indirect=True)
def test_another_template_is_refused(trained) -> None:
    opened(trained)
    file = trained.path / "backbone" / "chat_template.jinja"
    file.write_text(file.read_text().replace("<assistant>", "<model>"))
    with pytest.raises(JobError, match="gives other token ids than when it was made") as refused:
        opened(trained)
    assert "restore them" in refused.value.hint


def test_other_settings_are_told_from_other_files(trained) -> None:
    assert opened(trained, max_length=64).renderer.max_length == 64
    with pytest.raises(JobError, match="as the chat template; the reward model's settings now ask for plain role"):
        opened(trained, rendering="plain")


def test_another_special_token_is_refused(trained) -> None:
    file = trained.path / "backbone" / "tokenizer.json"
    told = json.loads(file.read_text())
    vocabulary = told["model"]["vocab"]
    vocabulary["H"], vocabulary["i"] = vocabulary["i"], vocabulary["H"]
    file.write_text(json.dumps(told))
    with pytest.raises(JobError, match="tokenizer or chat template"):
        opened(trained)


def test_checkpoints_that_say_nothing_of_it_still_open(trained) -> None:
    about = trained.path / "reward_model.json"
    told = json.loads(about.read_text())
    del told["rendering"]
    about.write_text(json.dumps(told))
    opened(trained, rendering="plain")
