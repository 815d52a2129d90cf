"""Two machines train one model: here two launchers of one process each, on this machine, that meet at a port."""

import socket
import threading
import time

import pytest

from tests.workers.making import LocalRun, make_pairs
from workers.accelerate_files import FOLDER_VARIABLE
from workers.machine import CALL, follow

SETTINGS = {"validation_share": 0.25, "max_steps": 4, "seed": 3, "dtype": "float32"}
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 2
num_machines: 2
main_process_ip: 127.0.0.1
main_process_port: {port}
same_network: true
rdzv_backend: static
use_cpu: true
mixed_precision: 'no'
fsdp_config: {{fsdp_version: 2}}
"""


def a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_two_machines_take_the_steps_of_one_process(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "accelerate"
    folder.mkdir()
    (folder / "machines.yaml").write_text(CONFIG.format(port=a_free_port()))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    run = LocalRun(tmp_path / "runs", make_pairs(40))
    alone_ctx, two_ctx = run.context("alone"), run.context("two")
    run.train(alone_ctx, **SETTINGS)
    other = threading.Thread(target=follow, args=(tmp_path / "runs", 1), kwargs={"once": True}, daemon=True)
    other.start()
    result = run.train(two_ctx, **SETTINGS, accelerate_config="machines.yaml")
    losses = [[m["loss"] for m in ctx.metrics if "loss" in m] for ctx in (alone_ctx, two_ctx)]
    assert len(losses[1]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert result["processes"] == len(result["n_parameters_held"]) == 2
    assert not (two_ctx.work_dir / CALL).exists()
    other.join(timeout=20)
    assert not other.is_alive(), "the other machine ends when the run has ended"


def test_a_call_to_the_wrong_machine_is_told_in_words(tmp_path, monkeypatch, capsys) -> None:
    folder = tmp_path / "accelerate"
    folder.mkdir()
    (folder / "machines.yaml").write_text(CONFIG.format(port=29511))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    for name, config, word in (("one", "machines.yaml", "none of rank 2"), ("two", "other.yaml", "other.yaml")):
        runs = tmp_path / name
        (runs / "run").mkdir(parents=True)
        (runs / "run" / CALL).write_text(f'{{"config": "{config}", "launch": "{time.monotonic()}"}}')
        follow(runs, 2, once=True)
        assert word in capsys.readouterr().out
