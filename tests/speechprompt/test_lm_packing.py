"""Rows without their padding give what padded rows give: states, gradients, and how many positions are computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechprompt.lm.cache import Prefix
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.packing import Packing

LENGTHS = (3, 9, 1, 6)


def rows(lm: GSLM) -> Tensor:
    """Random units in rows of LENGTHS, padded on the right."""
    ids_BT = torch.randint(4, 24, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(0))
    padding_BT = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    return ids_BT.masked_fill(padding_BT, lm.vocab.pad)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=9))
def test_what_is_packed_comes_back_to_its_place(last: list[int]) -> None:
    read_BR = torch.tensor(last)[:, None]
    packing = Packing.up_to(read_BR, 12)
    n_kept = sum(place + 1 for place in last)
    if packing is None:
        assert n_kept > 0.9 * 12 * len(last)
        return
    x_BTD = torch.arange(12 * len(last)).reshape(len(last), 12, 1)
    kept_ND = packing.pack(x_BTD)
    assert len(kept_ND) == n_kept
    kept_BT = torch.arange(12) <= read_BR
    assert torch.equal(packing.spread(kept_ND)[kept_BT], x_BTD[kept_BT])
    assert torch.equal(packing.rows_at(kept_ND, read_BR)[:, 0], x_BTD[torch.arange(len(last)), read_BR[:, 0]])


@pytest.mark.parametrize("n_read", [1, 2])
def test_states_and_gradients_are_those_of_every_row_alone(lm: GSLM, n_read: int) -> None:
    lm, ids_BT = lm.double(), rows(lm)
    vectors = [
        torch.randn(lm.n_layers, 4, lm.d_model, generator=torch.Generator().manual_seed(n)).double()
        for n in (1, 2)
    ]

    def read(places: list[int], ids_BT: Tensor) -> tuple[Tensor, list[Tensor]]:
        separator = torch.full((lm.d_model,), 0.3, dtype=torch.float64, requires_grad=True)
        trained = [vector.clone().requires_grad_() for vector in vectors]
        # The row's last token, and with two positions its first one, too.
        read_BR = torch.tensor([[place, 0][:n_read] for place in places])
        x_BTD = torch.where(
            (torch.arange(ids_BT.shape[1]) == read_BR[:, :1])[:, :, None], separator, lm.embed(ids_BT)
        )
        hidden_BRD = lm(x_BTD, prefix=lm.prefix(*trained), read_positions=read_BR)
        return hidden_BRD, list(torch.autograd.grad(hidden_BRD.sin().sum(), [separator, *trained]))

    together, gradients = read([length - 1 for length in LENGTHS], ids_BT)
    alone = [read([length - 1], row_T[None, :length]) for row_T, length in zip(ids_BT, LENGTHS, strict=True)]
    torch.testing.assert_close(together, torch.cat([hidden for hidden, _ in alone]))
    for number, gradient in enumerate(gradients):
        torch.testing.assert_close(gradient, sum(g[number] for _, g in alone))


def test_padding_is_not_computed(lm: GSLM) -> None:
    seen: list[tuple[int, ...]] = []
    lm.layers[0].fc1.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    read_BR = torch.tensor(LENGTHS)[:, None] - 1
    lm(lm.embed(rows(lm)), read_positions=read_BR)
    assert seen == [(sum(LENGTHS), lm.config.d_ffn)]


def test_each_row_may_have_a_prefix_of_its_own(lm: GSLM) -> None:
    read_BR = torch.tensor(LENGTHS)[:, None] - 1
    prompts = [
        torch.randn(2, lm.n_layers, 3, lm.d_model, generator=torch.Generator().manual_seed(n))
        for n in range(len(LENGTHS))
    ]
    each = [lm.prefix(*prompt) for prompt in prompts]
    every = Prefix(
        torch.cat([p.key_LBHPE for p in each], dim=1), torch.cat([p.value_LBHPE for p in each], dim=1)
    )
    x_BTD = lm.embed(rows(lm))
    together = lm(x_BTD, prefix=every, read_positions=read_BR)
    for number, prefix in enumerate(each):
        alone = lm(x_BTD[[number]], prefix=prefix, read_positions=read_BR[[number]])
        torch.testing.assert_close(together[[number]], alone, atol=1e-5, rtol=1e-5)
