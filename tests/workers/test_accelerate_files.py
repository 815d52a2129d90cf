"""Configurations of accelerate: which a run may name, and what is refused in words before it starts."""

import pytest

from tests.workers.making import LocalRun, make_pairs
from workers.accelerate_files import FOLDER_VARIABLE, config_names, find_config, read_config
from workers.errors import JobError, SpecError
from workers.jobs.train_rm import TrainRewardModel
from workers.processes import launch_command

FSDP = "distributed_type: FSDP\nnum_processes: 4\nnum_machines: 2\nfsdp_config: {fsdp_version: 2}\n"
ZERO = "distributed_type: DEEPSPEED\nnum_processes: 4\ndeepspeed_config: {zero_stage: 2}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    kept = tmp_path / "configurations"
    kept.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(kept))
    return kept


def test_a_file_is_found_by_its_name_and_handed_to_accelerate(folder) -> None:
    (folder / "fsdp.yaml").write_text(FSDP)
    (folder / "notes.txt").write_text("no configuration")
    found = find_config("fsdp.yaml")
    assert (found.kind, found.processes, found.machines, found.is_split) == ("fsdp", 4, 2, True)
    assert config_names() == ["fsdp.yaml"]
    launched = launch_command(4, found, folder / "task.json")
    assert launched[launched.index("--config_file") + 1] == str(folder / "fsdp.yaml")


@pytest.mark.parametrize("name", ["../secret.yaml", "/etc/passwd", "a/b.yaml", ".hidden.yaml", "..", "", "x.yaml\n"])
def test_no_name_leads_out_of_the_folder(folder, name) -> None:
    (folder.parent / "secret.yaml").write_text(FSDP)
    with pytest.raises(JobError, match="There is no configuration"):
        find_config(name)


def test_a_link_out_of_the_folder_is_not_followed(folder) -> None:
    (folder.parent / "secret.yaml").write_text(FSDP)
    (folder / "link.yaml").symlink_to(folder.parent / "secret.yaml")
    with pytest.raises(JobError, match="There is no configuration"):
        find_config("link.yaml")


def test_without_a_folder_there_is_nothing_to_name(monkeypatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(JobError, match="no configurations") as caught:
        find_config("fsdp.yaml")
    assert FOLDER_VARIABLE in caught.value.hint
    assert config_names() == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- a\n- b\n", "list of settings"),
        ("a: [", "cannot be read"),
        ("distributed_type: MEGATRON_LM", "MEGATRON_LM"),
        ("distributed_type: XLA", "XLA"),
        ("compute_environment: AMAZON_SAGEMAKER\ndistributed_type: NO", "SAGEMAKER"),
        ("distributed_type: FSDP\nnum_processes: many", "num_processes: many"),
        ("distributed_type: FSDP\nnum_processes: 3\nnum_machines: 2\nfsdp_config: {fsdp_version: 2}", "evenly"),
        ("distributed_type: FSDP\nnum_processes: 2", "first version of FSDP"),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: true}", "memory of the host"),
        (
            "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_activation_checkpointing: true}",
            "activation_checkpointing",
        ),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\nparallelism_config: {tp_size: 2}", "parallelism"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}", "third stage"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 0}", "stage"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, offload_optimizer_device: cpu}", "offload"),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, gradient_accumulation_steps: 4}",
            "gradient_accumulation_steps",
        ),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}", "deepspeed_config_file"),
    ],
)
def test_what_would_be_done_otherwise_is_refused(folder, text, word) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(JobError) as caught:
        read_config(folder / "bad.yaml")
    assert word in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("spec", "family", "word"),
    [
        ({"accelerate_config": "none.yaml"}, "scalar_head", "Known: fsdp.yaml"),
        ({"accelerate_config": "fsdp.yaml", "processes": 2}, "scalar_head", "starts 4 processes"),
        ({"accelerate_config": "fsdp.yaml", "compile": True}, "scalar_head", "compile"),
        ({"accelerate_config": "fsdp.yaml", "objective": "contrastive_bt"}, "scalar_head", "objective contrastive_bt"),
        ({"accelerate_config": "fsdp.yaml", "objective": "meta_bt"}, "scalar_head", "can: bradley_terry, centred_bt"),
        ({"accelerate_config": "fsdp.yaml"}, "goal_conditioned", "Families: autoregressive, implicit"),
        ({"accelerate_config": "zero.yaml"}, "implicit", "Use a file with distributed_type: FSDP"),
        ({"accelerate_config": "zero.yaml"}, "process", "family process"),
        ({"accelerate_config": "fsdp.yaml", "freeze_backbone": True}, "scalar_head", "frozen"),
        ({"accelerate_config": "half.yaml"}, "scalar_head", "mixed_precision: fp16"),
    ],
)
def test_a_run_that_does_not_go_with_its_file_is_refused_before_it_starts(folder, spec, family, word) -> None:
    (folder / "fsdp.yaml").write_text(FSDP)
    run = LocalRun(folder.parent, make_pairs(4), family=family)
    others = {"half.yaml": FSDP + "mixed_precision: fp16\n", "zero.yaml": ZERO}
    if (name := spec["accelerate_config"]) in others:
        (folder / name).write_text(others[name])
    with pytest.raises(SpecError) as caught:
        run.train(**spec)
    assert word in caught.value.errors[0]["detail"]
    assert caught.value.errors[0]["pointer"] == "/accelerate_config"


def test_the_form_suggests_the_names_there_are(folder) -> None:
    schema = TrainRewardModel.Spec.model_json_schema()["properties"]["accelerate_config"]
    assert "examples" not in schema
    (folder / "fsdp.yaml").write_text(FSDP)
    fresh = type("Spec", (TrainRewardModel.Spec,), {})
    assert fresh.model_json_schema()["properties"]["accelerate_config"]["examples"] == ["fsdp.yaml"]
