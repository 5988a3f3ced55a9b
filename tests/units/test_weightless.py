"""Modules without values: nothing is drawn, and torch imports no compiler to draw nothing with."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from units.weightless import weightless

CHILD = """
import sys
from speechprompt.stack_folder import load_stack
stack = load_stack("mini")
stack.lm, stack.seq2seq
print("torch._dynamo" in sys.modules)
"""


def test_language_models_load_without_torchs_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_modules_have_shapes_and_no_memory() -> None:
    with weightless():
        module = nn.Sequential(
            nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 3), nn.LayerNorm(3), nn.LSTM(3, 5)
        )
    assert module[0].weight.shape == (10, 4) and module[1].bias.shape == (3,)
    assert all(value.is_meta for value in module.parameters())
    assert torch.zeros(1).device.type == "cpu"  # no longer, behind the block


@pytest.mark.parametrize(
    "draw", [nn.init.trunc_normal_, nn.init.xavier_uniform_, nn.init.kaiming_normal_, torch.Tensor.uniform_]
)
def test_what_draws_gives_its_tensor_back(draw: object) -> None:
    assert callable(draw)
    with weightless():
        weight = torch.empty(3, 4)
        assert draw(weight) is weight
        assert nn.init.normal_(tensor=weight) is weight
    state = torch.random.get_rng_state()
    with weightless():
        draw(torch.empty(3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
