from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig, sinusoidal_positions
from speechprompt.vocab import UnitVocab
from units.errors import InputError


def test_the_published_dimensions_have_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        lm = GSLM(
            TransformerConfig(n_layers=12, d_model=1024, n_heads=16, d_ffn=4096), UnitVocab.from_n_units(100)
        )
    assert lm.n_parameters() == 151_263_232


def test_positions_are_sines_then_cosines_and_padding_has_none() -> None:
    table = sinusoidal_positions(10, 7, padding_row=1)
    assert table.shape == (10, 7)
    assert not table[1].any()
    assert not table[:, 6].any()
    for column, wavelength in enumerate([1.0, 100.0, 10_000.0]):
        assert table[5, column] == pytest.approx(math.sin(5 / wavelength), abs=1e-6)
        assert table[5, 3 + column] == pytest.approx(math.cos(5 / wavelength), abs=1e-6)


def test_embedding_replaces_the_separator_before_scaling_and_counts_positions_from_two(lm: GSLM) -> None:
    separator = torch.arange(32.0)
    ids_BT = torch.tensor([[2, 5, 0, 1, 1]])
    x_BTD = lm.embed(ids_BT, separator=separator)
    positions = sinusoidal_positions(8, 32, padding_row=1)
    torch.testing.assert_close(x_BTD[0, 2], 32**0.5 * separator + positions[4])
    torch.testing.assert_close(x_BTD[0, 1], 32**0.5 * lm.embed_tokens.weight[5] + positions[3])
    assert not x_BTD[0, 3:].any()
    torch.testing.assert_close(lm.embed(ids_BT)[0, 2], 32**0.5 * lm.embed_tokens.weight[0] + positions[4])


def test_logits_of_chosen_tokens_are_those_of_the_full_vocabulary(lm: GSLM) -> None:
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([7, 4, 23])
    torch.testing.assert_close(lm.logits(hidden, ids), lm.logits(hidden)[:, ids])
    assert lm.logits(hidden).shape == (3, 24)


def test_a_row_longer_than_the_model_reads_is_refused_and_the_longest_is_not(lm: GSLM) -> None:
    assert lm.embed(torch.full((1, 64), 5)).shape == (1, 64, 32)
    with pytest.raises(InputError, match="65 tokens"):
        lm.embed(torch.full((1, 65), 5))


def test_save_and_load_keep_every_bit(lm: GSLM, tmp_path: Path) -> None:
    lm.save(tmp_path / "lm")
    again = load_lm(tmp_path / "lm")
    assert isinstance(again, GSLM)
    assert again.config == lm.config
    assert again.vocab == lm.vocab
    assert not again.training
    assert again.fingerprint() == lm.fingerprint()
    ids_BT = torch.tensor([[2, 5, 6, 1]])
    assert torch.equal(again(again.embed(ids_BT)), lm(lm.embed(ids_BT)))


def test_half_precision_takes_half_the_room_and_settles_after_one_round(lm: GSLM, tmp_path: Path) -> None:
    lm.save(tmp_path / "full")
    lm.save(tmp_path / "half", half=True)
    once = GSLM.load(tmp_path / "half")
    once.save(tmp_path / "again", half=True)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")}
    assert sizes["half"] < 0.6 * sizes["full"]
    assert next(once.parameters()).dtype == torch.float32
    assert GSLM.load(tmp_path / "again").fingerprint() == once.fingerprint() != lm.fingerprint()


def test_the_fingerprint_sees_one_changed_weight(lm: GSLM) -> None:
    before = lm.fingerprint()
    with torch.no_grad():
        lm.layers[1].fc1.weight[0, 0] += 1e-6
    assert lm.fingerprint() != before


def test_initialisation_follows_the_seed() -> None:
    def fingerprint(seed: int) -> str:
        return GSLM(TransformerConfig(1, 8, 2, 8), UnitVocab.from_n_units(5)).initialise(seed).fingerprint()

    assert fingerprint(0) == fingerprint(0) != fingerprint(1)


def damage_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "damage", ["missing", "no json", "family", "symbols", "layers", "weights", "no weights"]
)
def test_a_folder_that_is_no_language_model_is_refused(damage: str, lm: GSLM, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    lm.save(folder)
    match damage:
        case "missing":
            folder = tmp_path / "other"
        case "no json":
            (folder / "config.json").write_text("{")
        case "family":
            damage_config(folder, family="parrot")
        case "symbols":
            damage_config(folder, symbols=["0", "1"])
        case "layers":
            damage_config(folder, transformer={**lm.config.to_dict(), "n_layers": 2})
        case "weights":
            (folder / "model.safetensors").write_bytes(b"not safetensors")
        case "no weights":
            (folder / "model.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        load_lm(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
