"""Features of a frozen backbone: the same text is read once, and a head on them is trained long enough."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.making import LocalRun, make_pairs, turn
from workers.families import FAMILIES
from workers.families.base import Item
from workers.nn.features import encode_features
from workers.nn.view import aligned
from workers.specs import parse_spec


def item(text: str) -> Item:
    return [turn("user", "Can ducks fly?")], [turn("assistant", text)]


@pytest.mark.parametrize("family", ["scalar_head", "mixture"])
def test_equal_texts_are_read_once_and_get_the_vectors_of_each_alone(family: str) -> None:
    entry: Any = FAMILIES.get(family)
    config = parse_spec(entry.Config, {"backbone": "tiny-encoder", "max_length": 64})
    backbone = entry.load_backbone(config)
    net = entry.net(config, backbone)
    texts = ["Most can.", "No.", "Most can.", "All of them can.", "No.", "Most can."]
    encoded = entry.encode(config, entry.renderer(config, backbone), [item(text) for text in texts])
    read: list[int] = []
    inner = net.features

    def counting(batch: Any) -> Any:
        read.append(len(batch))
        return inner(batch)

    net.features = counting
    done: list[int] = []
    found = encode_features(net, encoded, budget=4096, on_batch=done.append)
    assert sum(read) == 3
    assert sum(done) == len(texts)  # progress counts what was asked for
    for place, one in enumerate(encoded):
        alone = encode_features(net, [one], budget=4096, on_batch=lambda _: None)
        np.testing.assert_allclose(found.response[place], alone.response[0], atol=1e-5)
        assert (found.prompt is None) == (alone.prompt is None)
        if found.prompt is not None and alone.prompt is not None:
            np.testing.assert_allclose(found.prompt[place], alone.prompt[0], atol=1e-5)
    assert not np.allclose(found.response[0], found.response[1])


@pytest.mark.parametrize(("is_frozen", "epochs"), [(False, 2), (True, 20)])
def test_a_head_alone_is_trained_longer_where_no_epochs_are_asked_for(
    tmp_path: Path, is_frozen: bool, epochs: int
) -> None:
    run = LocalRun(tmp_path, make_pairs(24))
    result = run.train(epochs=None, freeze_backbone=is_frozen, batch_pairs=8, dtype="float32")
    assert result["n_steps"] == epochs * math.ceil(result["n_train"] / 8)
    assert result["validation_final"]["loss"] < 0.7


def test_where_in_memory_stored_features_lie_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    head = torch.nn.Linear(32, 1)
    vectors = rng.normal(size=(16, 32)).astype(np.float32)
    room = np.empty(16 * 32 + 16, dtype=np.float32)
    found = set()
    for offset in range(16):
        moved = room[offset : offset + 16 * 32].reshape(16, 32)
        moved[:] = vectors
        found.add(head(aligned(moved)).detach().numpy().tobytes())
    assert len(found) == 1
