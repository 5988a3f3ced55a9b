"""A rounded layer multiplies as `F.linear` does, wherever its matrix lies, and its input has the gradient of that."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from units import rounded_linear
from units.rounded_linear import RoundedLinear

ROUNDING = 2.0**-7  # of the largest value: sums in another order, rounded to eight bits once


@pytest.fixture(params=["laid out", "in rows"])
def linear(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RoundedLinear:
    """Of two parts; in rows as on a processor without bfloat16 products."""
    if request.param == "in rows":
        monkeypatch.setattr(rounded_linear, "_multiplies_bf16", lambda: False)
    elif not rounded_linear._multiplies_bf16():
        pytest.skip("the processor multiplies no bfloat16 by oneDNN")
    torch.manual_seed(0)
    made = RoundedLinear([nn.Linear(48, 32), nn.Linear(48, 16)])
    assert made.weight.is_mkldnn is (request.param == "laid out")
    return made


def rows_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def near(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    largest = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING * largest)


def in_rows(linear: RoundedLinear) -> Tensor:
    weight = linear.weight.detach()
    return weight.to_dense() if weight.is_mkldnn else weight


@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (2, 5, 48), (0, 48), (3, 0, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_multiplies_as_rows_do(linear: RoundedLinear, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = rows_of(*shape).to(dtype)
    near(linear(x), F.linear(x.to(torch.bfloat16), in_rows(linear), linear.bias))


def test_each_part_is_the_layer_it_was_made_of(linear: RoundedLinear) -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(48, 32), nn.Linear(48, 16)]
    rounded = [part.weight.detach().to(torch.bfloat16) for part in parts]
    assert torch.equal(in_rows(linear), torch.cat(rounded))
    assert (linear.in_features, linear.out_features) == (48, 48)


@pytest.mark.parametrize("shape", [(7, 48), (2, 5, 48)])
def test_the_input_has_the_gradient_and_the_layer_none(linear: RoundedLinear, shape: tuple[int, ...]) -> None:
    x, wanted = rows_of(*shape).requires_grad_(), rows_of(*shape)
    made = F.relu(linear(x), inplace=True)  # as the feed-forward part does: what was made is written over
    made.backward(wanted.to(made.dtype))
    exact = x.detach().requires_grad_()
    F.linear(exact, in_rows(linear).float(), linear.bias.float()).relu().backward(wanted)
    assert x.grad is not None and exact.grad is not None
    near(x.grad, exact.grad)
    assert linear.weight.grad is None and linear.bias.grad is None


def test_a_second_gradient_is_the_first(linear: RoundedLinear) -> None:
    grads = []
    for _ in range(2):
        x = rows_of(7, 48).requires_grad_()
        linear(x).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)
