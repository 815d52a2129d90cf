"""Precision `auto`: tried once a machine, and the same for every run and process after that."""

import json
import multiprocessing

import pytest
import torch

from workers.nn import precision
from workers.nn.precision import choose_dtype


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STEELYARD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    precision._of_this_cpu.cache_clear()
    yield
    precision._of_this_cpu.cache_clear()


def timed(monkeypatch, float32_s: float, bf16_s: float) -> None:
    monkeypatch.setattr(precision, "_product_s", lambda dtype: float32_s if dtype == torch.float32 else bf16_s)


def test_a_choice_is_taken_as_it_is() -> None:
    assert (choose_dtype("bf16"), choose_dtype("float32")) == ("bf16", "float32")


@pytest.mark.parametrize(("bf16_s", "chosen"), [(0.5, "bf16"), (0.9, "float32"), (10.0, "float32")])
def test_bf16_where_it_is_clearly_faster(monkeypatch, bf16_s, chosen) -> None:
    timed(monkeypatch, 1.0, bf16_s)
    assert choose_dtype("auto") == chosen


def test_the_first_answer_stands_in_every_process(monkeypatch, tmp_path) -> None:
    timed(monkeypatch, 1.0, 0.1)
    assert choose_dtype("auto") == "bf16"
    timed(monkeypatch, 1.0, 10.0)  # a busy moment
    assert choose_dtype("auto") == "bf16"
    precision._of_this_cpu.cache_clear()
    assert choose_dtype("auto") == "bf16"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(choose_dtype, ("auto",)) == "bf16"
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text())["bf16_s"] == 0.1
    assert not list(tmp_path.rglob("*.part"))


def test_a_broken_file_or_a_folder_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path) -> None:
    timed(monkeypatch, 1.0, 0.1)
    choose_dtype("auto")
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    precision._of_this_cpu.cache_clear()
    assert choose_dtype("auto") == "bf16"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEELYARD_CACHE_DIR", str(tmp_path / "file"))
    assert choose_dtype("auto") == "bf16"
