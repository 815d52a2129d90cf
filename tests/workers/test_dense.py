"""Linear layers through oneDNN: torch's own numbers and gradients, and torch's own route where they do not fit."""

import pytest
import torch
from torch import nn

from workers.nn import dense as module
from workers.nn.dense import FEW_ROWS, dense, has_fused_linear

needs_fused = pytest.mark.skipif(not has_fused_linear(), reason="this torch or processor has no fused linear layers")
CASES = [(None, False), ("gelu", False), ("relu", False), ("swish", False), (None, True)]


def make(n_layers: int, has_bias: bool) -> tuple[list[nn.Linear], torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Linear(48, 32 + 16 * i, bias=has_bias) for i in range(n_layers)]
    x = torch.randn(FEW_ROWS + 5, 48, requires_grad=True)
    return layers, x, torch.randn(len(x), sum(layer.out_features for layer in layers))


def plainly(layers, x, activation, added) -> torch.Tensor:
    found = torch.cat([layer(x) for layer in layers], dim=1)
    act = {None: lambda y: y, "gelu": nn.functional.gelu, "relu": torch.relu, "swish": nn.functional.silu}[activation]
    return act(found) + (0 if added is None else added)


@pytest.mark.parametrize(("activation", "has_added"), CASES)
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_numbers_and_gradients_are_torchs(activation, has_added, n_layers, has_bias) -> None:
    layers, x, other = make(n_layers, has_bias)
    added = other if has_added else None
    expected = plainly(layers, x, activation, added)
    with torch.no_grad():
        assert torch.allclose(dense(layers, x, activation=activation, added=added), expected, atol=2e-6)
    wanted = [x, *(p for layer in layers for p in layer.parameters())]
    weights = torch.randn_like(expected)
    truth = torch.autograd.grad((expected * weights).sum(), wanted)
    found = torch.autograd.grad((dense(layers, x, activation=activation, added=added) * weights).sum(), wanted)
    for a, b in zip(truth, found, strict=True):
        assert torch.allclose(a, b, atol=2e-5)


@needs_fused
def test_a_gradient_has_a_gradient() -> None:
    (layer, *_), x, _ = make(1, True)

    def penalty(value: torch.Tensor) -> torch.Tensor:
        (slope,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
        return slope.square().sum()

    found = torch.autograd.grad(penalty(dense([layer], x)), list(layer.parameters()))
    truth = torch.autograd.grad(penalty(layer(x)), list(layer.parameters()))
    for a, b in zip(found, truth, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


@needs_fused
def test_the_fused_route_is_taken_where_it_fits_and_only_there(monkeypatch) -> None:
    taken: list[int] = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda x, *rest: taken.append(len(x)) or product(x, *rest))
    (layer,), x, _ = make(1, True)
    with torch.no_grad():
        dense([layer], x)
        assert taken == [len(x)]
        dense([layer], x[: FEW_ROWS - 1])
        dense([layer.bfloat16()], x.bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            dense([layer.float()], x)
        dense([nn.Sequential(layer)], x)
        assert taken == [len(x)]
