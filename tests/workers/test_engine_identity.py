"""What frozen features are known by, which items become probes, and what validation counts."""

import numpy as np
import torch

from tests.workers.making import make_pairs, turn
from workers.families import FAMILIES
from workers.nn.features import _identity
from workers.nn.net import set_dropout
from workers.nn.units import Keys, UnitData, read_units
from workers.nn.validation import pair_validation
from workers.objectives import OBJECTIVES
from workers.objectives.base import PairTargets
from workers.specs import parse_spec


def test_one_number_anywhere_makes_another_backbone() -> None:
    family = FAMILIES.get("scalar_head")
    config = parse_spec(family.Config, {"backbone": "tiny-encoder"})
    net = family.net(config, family.load_backbone(config))  # type: ignore[attr-defined]
    before = _identity(net)
    assert _identity(net) == before
    with torch.no_grad():
        widest = max(net.backbone.parameters(), key=torch.numel)
        widest.view(-1)[-1] += 1e-3
    assert _identity(net) != before


def test_another_reading_of_positions_makes_another_backbone_and_dropout_does_not() -> None:
    """Two folders may hold the same tensors: a longer context by scaled rotations changes every vector."""
    family = FAMILIES.get("scalar_head")
    config = parse_spec(family.Config, {"backbone": "tiny-causal"})
    net = family.net(config, family.load_backbone(config))  # type: ignore[attr-defined]
    before = _identity(net)
    net.backbone.config._name_or_path = "elsewhere"
    set_dropout(net.backbone, 0.3)
    assert _identity(net) == before
    net.backbone.config.rope_parameters = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    assert _identity(net) != before


def read(pairs: list) -> UnitData:
    family = FAMILIES.get("autoregressive")
    config = parse_spec(family.Config, {"backbone": "tiny-causal", "max_length": 64})
    objective = OBJECTIVES.get("likelihood_bt")
    backbone = family.load_backbone(config)  # type: ignore[attr-defined]
    return read_units(
        pairs,
        family.renderer(config, backbone),  # type: ignore[attr-defined]
        objective(parse_spec(objective.Config, {})),  # type: ignore[call-arg]
        on_read=lambda _: None,
        encode=lambda renderer, items: family.encode(config, renderer, items),  # type: ignore[attr-defined]
        keys=Keys(),
    )


def test_probes_are_items_that_have_a_likelihood() -> None:
    long = [turn("assistant", "word " * 100)]
    pairs = make_pairs(40)
    for i in range(0, 20):
        object.__setattr__(pairs[i], "response_a", long)
    probes = read(pairs).probes
    assert len(probes) == 8
    assert all(probe[1] != long for probe in probes)


def test_even_odds_are_no_verdict() -> None:
    """Shares of one half, as raters may leave behind, prefer neither response, whatever was said in the end."""
    n = 4
    targets = PairTargets(
        is_used=np.ones(n, dtype=np.bool_),
        target=np.array([1.0, 0.0, 0.5, 0.5]),
        weight=np.ones(n),
        offset=np.zeros(n),
        is_tie=np.zeros(n, dtype=np.bool_),
    )
    found = pair_validation(np.array([2.0, 0, 2, 0]), np.array([0.0, 2, 0, 2]), targets, loss=0.0, groups={})
    assert (found.n, found.accuracy, found.swapped_accuracy) == (2, 1.0, 0.0)
