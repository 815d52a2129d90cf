"""How scoring uses a machine: the trial and what is remembered of it, what a spec says instead, and 8 bits."""

import json

import numpy as np
import pytest
import torch

from workers import tuning
from workers.context import CheckpointRef
from workers.environment import available_cpus
from workers.errors import JobError
from workers.families import FAMILIES
from workers.jobs import score
from workers.opening import Setting, open_here
from workers.parallel import dealt
from workers.specs import parse_spec


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STEELYARD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "SECONDS", 0.05)
    monkeypatch.setattr(tuning, "BUDGETS", (512,))


@pytest.fixture
def trained(local):
    return local.train(max_steps=2)["checkpoint"]


def test_the_first_large_scoring_tries_and_the_next_remembers(local, trained, monkeypatch) -> None:
    monkeypatch.setattr(score, "PARALLEL_FROM", 10)
    one = local.run("score", local.context("one"), checkpoint=trained)
    setting = one["setting"]
    assert setting["from"] == "trial"
    tried = {(row["processes"], row["threads"], row["token_budget"]) for row in setting["trial"]}
    assert (setting["processes"], setting["threads"], setting["token_budget"]) in tried
    assert {budget for _, _, budget in tried} == {512, tuning.USUAL_BUDGET}
    assert available_cpus() == 1 or len({processes for processes, _, _ in tried}) > 1
    assert all(row["responses_per_s"] > 0 for row in setting["trial"])
    assert one["n_scored"] == 2 * len(local.pairs)
    told = {"query": {"dataset": "pairs"}, "total": 2 * len(local.pairs)}  # how the next run begins
    _, two = score.choose_setting(local.context("two"), local.checkpoints[trained], Setting(), **told)
    assert two == {**{k: setting[k] for k in ("processes", "threads", "token_budget")}, "from": "remembered"}
    three = local.run("score", local.context("three"), checkpoint=trained, processes=1, token_budget=128)
    assert three["setting"] == {"processes": 1, "threads": None, "token_budget": 128, "from": "spec"}
    json.dumps(one)


def test_every_setting_gives_the_same_rewards(local, trained) -> None:
    found = []
    for number, spec in enumerate(({}, {"token_budget": 64}, {"processes": 2, "threads": 1, "token_budget": 4096})):
        ctx = local.context(f"way {number}")
        local.run("score", ctx, checkpoint=trained, **spec)
        found.append([ctx.scores[trained][i] for i in sorted(ctx.scores[trained])])
    assert np.abs(np.array(found) - found[0]).max() < 1e-5


def test_small_inputs_and_rules_try_nothing(local, trained) -> None:
    assert local.run("score", local.context("small"), checkpoint=trained)["setting"]["from"] == "default"
    assert not (tuning.cache_folder() / tuning.FILE).exists()
    local.checkpoints["length"] = CheckpointRef("length", "length", {}, None)
    found = local.run("score", local.context("rule"), checkpoint="length")
    assert found["setting"] == {"processes": 1, "threads": None, "token_budget": None, "from": "default"}


def test_what_is_remembered_is_for_one_machine_and_size(local, trained, monkeypatch) -> None:
    reference = local.checkpoints[trained]
    tuning.remember(reference, Setting(2, 1, 512), [])
    assert tuning.recall(reference) == Setting(2, 1, 512)
    assert "bert | 32 | 2" in tuning.machine_key(reference)
    monkeypatch.setattr(tuning, "cpu_name", lambda: "another CPU")
    assert tuning.recall(reference) is None
    monkeypatch.undo()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"KEY": {"setting": {"processes": "many"}}}'])
def test_a_damaged_memory_is_forgotten(local, trained, content) -> None:
    reference = local.checkpoints[trained]
    place = tuning.cache_folder() / tuning.FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content.replace("KEY", tuning.machine_key(reference)))
    assert tuning.recall(reference) is None
    tuning.remember(reference, Setting(1, 2, 512), [])
    assert tuning.recall(reference) == Setting(1, 2, 512)


def test_memory_limits_the_processes(local, trained, monkeypatch) -> None:
    reference = local.checkpoints[trained]
    monkeypatch.setattr(tuning, "available_cpus", lambda: 16)
    monkeypatch.setattr(tuning, "available_mib", lambda: 100_000.0)
    assert tuning.most_processes(reference) == 16
    assert list(tuning.shapes(16)) == [(16, 1), (8, 2), (4, 4), (1, 16)]
    monkeypatch.setattr(tuning, "weights_mib", lambda _: 4000.0)
    assert tuning.most_processes(reference) == 9
    monkeypatch.setattr(tuning, "available_mib", lambda: 3000.0)
    assert tuning.most_processes(reference) == 1
    assert list(tuning.shapes(1)) == [(1, 16)]


def test_only_a_clearly_faster_way_is_taken() -> None:
    usual, other = Setting(2, 1, 2048), Setting(1, 2, 2048)
    assert tuning._best([(10.0, usual), (10.4, other)]) == usual
    assert tuning._best([(10.0, usual), (10.6, other)]) == other


def test_items_are_dealt_by_prompt_and_evenly(local) -> None:
    items = [(pair.prompt, response) for pair in local.pairs for response in (pair.response_a, pair.response_b)]
    shares = dealt(items, 3)
    assert sorted(int(i) for share in shares for i in share) == list(range(len(items)))
    homes = {}
    for number, share in enumerate(shares):
        for i in share:
            assert homes.setdefault(items[i][0][0]["content"], number) == number
    sizes = [sum(len(items[i][0][0]["content"]) + len(items[i][1][0]["content"]) for i in share) for share in shares]
    assert max(sizes) < 1.2 * min(sizes)
    assert [len(share) for share in dealt(items[:1], 3)] == [1, 0, 0]


def as_int8(reference: CheckpointRef) -> CheckpointRef:
    return CheckpointRef("int8", reference.family, {**reference.config, "scoring_dtype": "int8"}, reference.path)


@pytest.mark.parametrize("backbone", ["tiny-encoder", "tiny-causal"])
def test_int8_scores_with_the_error_shown(local, backbone) -> None:
    local.model = {"backbone": backbone}
    exact_uid = local.train(epochs=3)["checkpoint"]
    local.checkpoints["int8"] = as_int8(local.checkpoints[exact_uid])
    exact, rough = local.context("exact"), local.context("rough")
    local.run("score", exact, checkpoint=exact_uid)
    found = local.run("score", rough, checkpoint="int8")
    moved = np.array([rough.scores["int8"][i] - exact.scores[exact_uid][i] for i in rough.scores["int8"]])
    spread = np.std(list(exact.scores[exact_uid].values()))
    assert 0 < np.abs(moved).max() < spread
    assert found["int8"]["n_probes"] == 8
    assert 0 < found["int8"]["mean_error"] <= found["int8"]["largest_error"] < 10 * np.abs(moved).max()
    assert any("int8" in line for level, line in rough.logs if level == "warning")
    if backbone == "tiny-encoder":  # processes are slow to start, and know nothing of what they open
        shared = local.run("score", local.context("two"), checkpoint="int8", processes=2)
        assert shared["int8"]["largest_error"] > 0


def test_int8_is_refused_where_it_cannot_be(local, monkeypatch) -> None:
    local.model = {"backbone": "tiny-causal"}
    family = next(n for n, f in FAMILIES.items() if "likelihood" in f.capabilities and n != "implicit")
    local.family = family
    local.checkpoints["a"] = as_int8(local.checkpoints[local.train(max_steps=1)["checkpoint"]])
    with pytest.raises(JobError, match="cannot be scored in int8"):
        local.run("score", checkpoint="a")
    local.family = "scalar_head"
    reference = as_int8(local.checkpoints[local.train(max_steps=1)["checkpoint"]])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(JobError, match="for CPUs"):
        open_here(reference.family, reference.config, reference.path, Setting())


def test_training_an_int8_model_stays_exact(local) -> None:
    local.model = {"backbone": "tiny-encoder", "scoring_dtype": "int8"}
    found = local.train(max_steps=2)
    assert found["checkpoint"]
    assert parse_spec(FAMILIES.get("scalar_head").Config, local.model).scoring_dtype == "int8"
