from __future__ import annotations

import pytest
import torch

from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.lm.row_prefixes import row_prefixes

LENGTHS = (3, 0, 5, 3)  # 0 stands for a row without a prefix


def some_prefixes(lm: UnitLM, lengths: tuple[int, ...]) -> list[Prefix | None]:
    generator = torch.Generator().manual_seed(1)
    vectors = [torch.randn(2, lm.n_layers, n, lm.d_model, generator=generator) for n in lengths]
    return [lm.prefix(*pair) if pair.shape[2] else None for pair in vectors]


def some_rows(lm: UnitLM, n_rows: int) -> torch.Tensor:
    ids = torch.randint(len(lm.vocab.unit_ids), (n_rows, 7), generator=torch.Generator().manual_seed(2))
    return torch.from_numpy(lm.vocab.encode(ids.numpy()))


@torch.no_grad()
@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4, 4), (0, 0), (2, 0)])
def test_every_row_reads_what_it_reads_alone(any_lm: UnitLM, lengths: tuple[int, ...]) -> None:
    prefixes, ids_BT = some_prefixes(any_lm, lengths), some_rows(any_lm, len(lengths))
    x_BTD = any_lm.embed(ids_BT)
    together_BTD = any_lm(x_BTD, prefix=row_prefixes(prefixes))
    last_B1 = torch.full((len(lengths), 1), 6)
    at_end_B1D = any_lm(x_BTD, prefix=row_prefixes(prefixes), read_positions=last_B1)
    for row, prefix in enumerate(prefixes):
        alone_TD = any_lm(x_BTD[row : row + 1], prefix=prefix)[0]
        torch.testing.assert_close(together_BTD[row], alone_TD, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(at_end_B1D[row, 0], alone_TD[6], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_of_rows_and_of_prefixes_add_up(any_lm: UnitLM) -> None:
    prefixes, ids_BT = some_prefixes(any_lm, LENGTHS), some_rows(any_lm, len(LENGTHS))
    ids_BT[1, 4:] = ids_BT[3, 5:] = any_lm.vocab.pad
    padding_BT = ids_BT.eq(any_lm.vocab.pad)
    together_BTD = any_lm(any_lm.embed(ids_BT), prefix=row_prefixes(prefixes), key_padding_mask=padding_BT)
    for row, prefix in enumerate(prefixes):
        n = int((~padding_BT[row]).sum())
        alone_BTD = any_lm(any_lm.embed(ids_BT[row : row + 1, :n]), prefix=prefix)
        torch.testing.assert_close(together_BTD[row, :n], alone_BTD[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_cache_begins_with_a_prefix_of_each_row(any_lm: UnitLM) -> None:
    prefixes, ids_BT = some_prefixes(any_lm, LENGTHS), some_rows(any_lm, len(LENGTHS))
    prefix = row_prefixes(prefixes)
    whole_BTD = any_lm(any_lm.embed(ids_BT), prefix=prefix)
    cache = any_lm.new_cache(len(LENGTHS), 7, prefix=prefix)
    any_lm(any_lm.embed(ids_BT[:, :6]), cache=cache)
    n_before_B = torch.full((len(LENGTHS),), 6)
    last_B1D = any_lm(any_lm.embed(ids_BT[:, 6:], n_before_B=n_before_B), cache=cache)
    torch.testing.assert_close(last_B1D[:, 0], whole_BTD[:, 6], atol=1e-4, rtol=1e-4)


def test_rows_of_one_prompt_share_its_prefix_without_a_copy(lm: UnitLM) -> None:
    [prefix] = some_prefixes(lm, (4,))
    assert row_prefixes([prefix] * 3) is prefix
    assert row_prefixes([None, None]) is None


def test_prefixes_that_some_positions_do_not_see_are_refused(lm: UnitLM) -> None:
    plain, infix = some_prefixes(lm, (4, 4))
    assert plain is not None
    assert infix is not None
    hidden = Prefix(infix.key_LBHPE, infix.value_LBHPE, visible_BTS=torch.ones(1, 2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="all positions"):
        row_prefixes([plain, hidden])
