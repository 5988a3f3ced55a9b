from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt.vocab import UnitVocab
from units.errors import InputError


@given(st.permutations(range(12)), st.lists(st.integers(0, 11)))
def test_decoding_undoes_encoding_whatever_the_order_of_the_dictionary(
    order: list[int], units: list[int]
) -> None:
    vocab = UnitVocab([str(unit) for unit in order])
    ids = vocab.encode(units)
    assert vocab.decode(ids).tolist() == units
    assert all(ids[i] == 4 + order.index(unit) for i, unit in enumerate(units))


def test_a_hundred_units_make_104_tokens_with_the_specials_first() -> None:
    vocab = UnitVocab.from_n_units(100)
    assert len(vocab) == 104
    assert (vocab.bos, vocab.pad, vocab.eos, vocab.unk) == (0, 1, 2, 3)
    assert vocab.encode([0, 99]).tolist() == [4, 103]
    assert vocab.unit_ids.tolist() == list(range(4, 104))


def test_a_dictionary_file_gives_ids_in_the_order_of_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "dict.txt"
    file.write_text("7 9000\n0 800\n3 70\nmadeupword0000 0\n")
    vocab = UnitVocab.from_dict_txt(file)
    assert vocab.encode([7, 0, 3]).tolist() == [4, 5, 6]
    assert len(vocab) == 8
    assert vocab.unit_ids.tolist() == [5, 6, 4]
    with pytest.raises(InputError, match="unit 1:"):
        vocab.encode([7, 1])
    with pytest.raises(InputError, match="token id 7:"):
        vocab.decode([4, 7])


@pytest.mark.parametrize("unit", [-1, 20, 10**9])
def test_a_unit_outside_the_inventory_is_named(unit: int) -> None:
    with pytest.raises(InputError, match=f"unit {unit}:"):
        UnitVocab.from_n_units(20).encode(np.array([0, unit]))


@pytest.mark.parametrize("token_id", [-1, 0, 1, 2, 3, 24])
def test_special_tokens_are_not_units(token_id: int) -> None:
    with pytest.raises(InputError, match=f"token id {token_id}:"):
        UnitVocab.from_n_units(20).decode([4, token_id])


@pytest.mark.parametrize("text", ["5\n", "5 many\n", "5 1\n5 1\n", "a 1\nb 1\n", "<s> 1\n5 1\n", ""])
def test_a_file_that_is_no_unit_dictionary_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "dict.txt"
    file.write_text(text)
    with pytest.raises(InputError):
        UnitVocab.from_dict_txt(file)


def test_a_missing_dictionary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        UnitVocab.from_dict_txt(tmp_path / "nowhere.txt")


def test_vocabularies_are_equal_when_their_symbols_are() -> None:
    assert UnitVocab.from_n_units(3) == UnitVocab(["0", "1", "2"])
    assert UnitVocab.from_n_units(3) != UnitVocab(["0", "2", "1"])
