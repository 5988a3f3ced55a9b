"""Waves, durations and F0 codes of the reference implementation, for every kind of published generator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from units.errors import InputError
from vocoder.hifigan import UnitHiFiGAN
from vocoder.published import read_generator

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden")) / "vocoder"
# Found when the tests are collected, so that kinds added later are tested too.
KINDS = sorted(path.parent.name for path in FOLDER.glob("*/golden.npz")) or ["any"]
ATOL = 1e-4  # of waves in [-1, 1]


def test_golden_kinds_are_there(golden: Path) -> None:
    assert all((golden / "vocoder" / kind / "model.pt").is_file() for kind in KINDS)


@pytest.fixture(scope="module", params=KINDS)
def reference(request: pytest.FixtureRequest, golden: Path) -> tuple[UnitHiFiGAN, dict[str, np.ndarray]]:
    config, state = published(golden / "vocoder" / request.param)
    generator, _ = read_generator(config, state)
    return generator, dict(np.load(golden / "vocoder" / request.param / "golden.npz"))


def published(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    state = torch.load(folder / "model.pt", weights_only=True)["generator"]
    return json.loads((folder / "config.json").read_text(encoding="utf-8")), state


def speaker_of(arrays: dict[str, np.ndarray]) -> torch.Tensor | None:
    return torch.from_numpy(arrays["spkr"])[0] if "spkr" in arrays else None


def f0_of(arrays: dict[str, np.ndarray]) -> torch.Tensor | None:
    if "f0_upsampled_input" in arrays:
        return torch.from_numpy(arrays["f0_upsampled_input"])
    return torch.from_numpy(arrays["f0"]).flatten(1) if "f0" in arrays else None


@torch.inference_mode()
def test_golden_wave(reference: tuple[UnitHiFiGAN, dict[str, np.ndarray]]) -> None:
    generator, arrays = reference
    wave_BS = generator(torch.from_numpy(arrays["code"]), speaker_of(arrays), f0_of(arrays))
    np.testing.assert_allclose(wave_BS[0].numpy(), arrays["wav"], atol=ATOL)


@torch.inference_mode()
def test_golden_durations(reference: tuple[UnitHiFiGAN, dict[str, np.ndarray]]) -> None:
    generator, arrays = reference
    if "duration" not in arrays:
        with pytest.raises(ValueError, match="duration"):
            generator.predict_durations(torch.from_numpy(arrays["code"]))
        return
    units_BT = torch.from_numpy(arrays["reduced_code"])
    np.testing.assert_allclose(generator.log_durations(units_BT), arrays["log_duration"], atol=ATOL)
    duration_BT = generator.predict_durations(units_BT)
    np.testing.assert_array_equal(duration_BT, arrays["duration"])
    wave_BS = generator(units_BT.repeat_interleave(duration_BT[0], dim=1), speaker_of(arrays))
    np.testing.assert_allclose(wave_BS[0].numpy(), arrays["wav_dur_prediction"], atol=ATOL)


@torch.inference_mode()
def test_golden_fillers_are_left_out(reference: tuple[UnitHiFiGAN, dict[str, np.ndarray]]) -> None:
    generator, arrays = reference
    code, f0_BF = torch.from_numpy(arrays.get("code_with_invalid", arrays["code"])), f0_of(arrays)
    real_T = code[0] >= 0  # the reference marks with negative numbers where there is no unit
    if f0_BF is not None:
        f0_BF = f0_BF[:, real_T.repeat_interleave(f0_BF.shape[1] // len(real_T))]
    wave_BS = generator(code[:, real_T], speaker_of(arrays), f0_BF)
    np.testing.assert_allclose(wave_BS[0], arrays.get("wav_code_with_invalid", arrays["wav"]), atol=ATOL)


@torch.inference_mode()
def test_golden_f0_codes(reference: tuple[UnitHiFiGAN, dict[str, np.ndarray]]) -> None:
    generator, arrays = reference
    if "f0_codes" not in arrays:
        assert generator.config.f0_quantizer is None
        return
    f0_BF = f0_of(arrays)
    assert f0_BF is not None
    codes_BT = generator.quantizer(f0_BF)
    np.testing.assert_array_equal(codes_BT, arrays["f0_codes"])
    from_codes_BS = generator(torch.from_numpy(arrays["code"]), speaker_of(arrays), codes_BT)
    np.testing.assert_allclose(from_codes_BS[0], arrays["wav"], atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_vocoders_load_strictly(kind: str, golden: Path) -> None:
    config, state = published(golden / "vocoder" / kind)
    _, left_out = read_generator(config, state)
    assert all(name.startswith("quantizer.decoder.") for name in left_out)
    needed = next(name for name in state if name.endswith("weight_v"))
    with pytest.raises(InputError, match=needed.removesuffix("_v")):
        read_generator(config, {n: t for n, t in state.items() if n not in (needed, needed[:-1] + "g")})
    with pytest.raises(InputError, match="surprise"):
        read_generator(config, state | {"surprise": torch.zeros(1)})
    with pytest.raises(InputError, match=r"dict\.weight"):
        read_generator(config, state | {"dict.weight": state["dict.weight"][1:]})
