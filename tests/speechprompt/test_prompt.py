from __future__ import annotations

import pytest
import torch

from speechprompt.lm.gslm import GSLM
from speechprompt.prompt import (
    DeepPrompt,
    InputPrompt,
    make_prompt,
    published_parameter_count,
    trainable_parameter_count,
)
from units.errors import InputError


@pytest.mark.parametrize(("length", "published"), [(5, 129_024), (6, 154_624)])
def test_counts_on_gslm_are_the_published_ones(length: int, published: int) -> None:
    assert published_parameter_count(length, n_layers=12, d_model=1024) == published
    # Of these the reference's input prompt is dead weight, which ours does without.
    assert trainable_parameter_count("deep", length, 12, 1024) == published - length * 1024


@pytest.mark.parametrize("kind", ["deep", "input"])
def test_a_prompt_has_as_many_weights_as_counted(kind: str, lm: GSLM) -> None:
    prompt = make_prompt(kind, 4, lm)
    n_weights = sum(parameter.numel() for parameter in prompt.parameters())
    assert n_weights + lm.d_model == trainable_parameter_count(kind, 4, lm.n_layers, lm.d_model)
    assert prompt.kind == kind
    assert prompt.length == 4


@torch.no_grad()
def test_a_new_deep_prompt_acts_as_if_units_stood_before_the_row(lm: GSLM) -> None:
    prompt = make_prompt("deep", 3, lm, seed=5)
    assert isinstance(prompt, DeepPrompt)
    prefix = prompt.eval().prefix(lm)
    assert prefix.key_LBHPE.shape == (lm.n_layers, 1, lm.n_heads, 3, lm.d_head)
    assert prefix.length == 3
    torch.testing.assert_close(prompt.key, prompt.value)
    # The first layer sees normed embeddings of units at positions 3, 4, 5; find which, then expect all layers of them.
    ids = [
        min(range(4, 24), key=lambda i: float((self_input(lm, place, i) - prompt.key[0, place]).abs().max()))
        for place in range(3)
    ]
    inputs_LTD = lm.key_value_inputs(lm.embed(torch.tensor([[2, *ids]])))[:, 0, 1:]
    torch.testing.assert_close(prompt.key, inputs_LTD, atol=1e-5, rtol=1e-5)


def self_input(lm: GSLM, place: int, token_id: int) -> torch.Tensor:
    row = torch.tensor([[2] + [4] * place + [token_id]])
    return lm.key_value_inputs(lm.embed(row))[0, 0, -1]


def test_a_new_input_prompt_is_made_of_scaled_unit_embeddings(lm: GSLM) -> None:
    prompt = make_prompt("input", 3, lm).eval()
    assert isinstance(prompt, InputPrompt)
    scaled = lm.embed_tokens.weight[4:] * 32**0.5
    for row_D in prompt.rows():
        assert (scaled - row_D).abs().amax(1).min() < 1e-6
    assert prompt.prefix(lm) is None


@pytest.mark.parametrize("kind", ["deep", "input"])
def test_first_values_follow_the_seed(kind: str, lm: GSLM) -> None:
    def values(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in make_prompt(kind, 4, lm, seed=seed).parameters()])

    assert torch.equal(values(1), values(1))
    assert not torch.equal(values(1), values(2))


@torch.no_grad()
def test_dropout_acts_in_training_only(lm: GSLM) -> None:
    torch.manual_seed(0)
    deep, rows = make_prompt("deep", 4, lm, dropout=0.5), make_prompt("input", 4, lm, dropout=0.5)
    assert not torch.equal(deep.prefix(lm).key_LBHPE, deep.prefix(lm).key_LBHPE)
    assert (rows.rows() == 0).any()
    deep.eval()
    assert torch.equal(deep.prefix(lm).key_LBHPE, deep.prefix(lm).key_LBHPE)
    assert torch.equal(rows.eval().rows(), rows.input)


def test_making_a_prompt_leaves_the_model_as_it_was(lm: GSLM) -> None:
    before = lm.fingerprint()
    lm.train()
    make_prompt("deep", 4, lm)
    assert lm.training
    assert lm.fingerprint() == before


@pytest.mark.parametrize(("kind", "length"), [("shallow", 5), ("deep", 0), ("deep", -1), ("input", 64)])
def test_an_impossible_prompt_is_refused(kind: str, length: int, lm: GSLM) -> None:
    with pytest.raises(InputError):
        make_prompt(kind, length, lm)
