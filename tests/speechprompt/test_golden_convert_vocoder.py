"""Published generators become vocoder folders that speak as the reference does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.convert.vocoder import UNKNOWN, convert
from units.errors import InputError
from units.types import UnitSequence, UnitSpec
from vocoder.base import UnitVocoder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden")) / "vocoder"
KINDS = sorted(path.parent.name for path in FOLDER.glob("*/golden.npz")) or ["any"]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_checkpoints_speak_from_their_folder(kind: str, golden: Path, tmp_path: Path) -> None:
    folder = golden / "vocoder" / kind
    config = json.loads((folder / "config.json").read_text())
    spec = UnitSpec(
        "golden", 1, config["num_embeddings"], config["sampling_rate"] / config["code_hop_size"], "golden"
    )
    converted = convert(folder / "model.pt", tmp_path / "vocoder", spec=spec)
    assert converted.kind == "vocoder"
    assert converted.dimensions["num_embeddings"] == config["num_embeddings"]
    assert set(converted.to_dict()["ignored"]) == {
        name for name in converted.ignored if "quantizer.decoder" in name
    }
    vocoder = UnitVocoder.load(tmp_path / "vocoder")
    assert vocoder.speakers[:2] == (("0", "1") if config.get("multispkr") else ())
    arrays = np.load(folder / "golden.npz")
    speaker = str(int(arrays["spkr"].item())) if "spkr" in arrays else None
    if (
        "f0" in arrays and "f0_codes" not in arrays
    ):  # twice as many F0 values as this codebook's frame rate has
        with torch.inference_mode():
            wave = vocoder.generator(
                torch.from_numpy(arrays["code"]),
                torch.from_numpy(arrays["spkr"]).view(-1) if "spkr" in arrays else None,
                torch.from_numpy(arrays["f0_upsampled_input"]),
            )
        np.testing.assert_allclose(wave[0], arrays["wav"], atol=1e-4)
        return
    f0 = arrays["f0"].ravel() if "f0" in arrays else None
    units = UnitSequence(arrays["code"][0], spec)
    np.testing.assert_allclose(
        vocoder(units, speaker, predict_durations=False, f0=f0), arrays["wav"], atol=1e-4
    )
    if "reduced_code" in arrays:
        reduced = UnitSequence(arrays["reduced_code"][0], spec)
        np.testing.assert_allclose(
            vocoder(reduced, speaker, predict_durations=True), arrays["wav_dur_prediction"], atol=1e-4
        )


def test_golden_vocoder_of_unknown_units_says_so(golden: Path, tmp_path: Path) -> None:
    converted = convert(golden / "vocoder" / "unit_dur" / "model.pt", tmp_path / "vocoder")
    assert converted.spec is not None
    assert (converted.spec.encoder, converted.spec.codebook) == (UNKNOWN, UNKNOWN)
    assert UnitVocoder.load(tmp_path / "vocoder").spec == converted.spec


def test_golden_speaker_names_lie_beside_the_checkpoint(golden: Path, tmp_path: Path) -> None:
    shutil.copy(golden / "vocoder" / "multispeaker_dur" / "model.pt", tmp_path / "voices.pt")
    shutil.copy(golden / "vocoder" / "multispeaker_dur" / "config.json", tmp_path / "voices_config.json")
    (tmp_path / "speakers.txt").write_text("p225\np226\n")
    convert(tmp_path / "voices.pt", tmp_path / "vocoder")
    assert UnitVocoder.load(tmp_path / "vocoder").speakers == ("p225", "p226")
    convert(tmp_path / "voices.pt", tmp_path / "vocoder", speakers=["a"])
    assert UnitVocoder.load(tmp_path / "vocoder").speakers == ("a",)


def test_what_is_no_vocoder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.save({"model": {"weight": torch.zeros(1)}}, file)
    with pytest.raises(InputError, match=r"config\.json"):
        convert(file, tmp_path / "vocoder")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="generator"):
        convert(file, tmp_path / "vocoder")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        convert(file, tmp_path / "vocoder")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        convert(file, tmp_path / "vocoder")
    assert not (tmp_path / "vocoder").exists()
