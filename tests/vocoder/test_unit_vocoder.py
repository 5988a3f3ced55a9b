import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from units.errors import InputError, UnitSpecMismatch
from units.types import UnitSequence, UnitSpec, Vocoder
from vocoder.base import UnitVocoder
from vocoder.config import DurationPredictorConfig, HiFiGANConfig
from vocoder.f0_codes import F0CodebookConfig, F0EncoderConfig, F0QuantizerConfig
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import round_weights

SPEC = UnitSpec("tiny", 2, 20, 50.0, "0123456789ab")
CONFIG = HiFiGANConfig(
    num_embeddings=20,
    embedding_dim=8,
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
    multispkr=True,
    num_speakers=3,
    dur_predictor_params=DurationPredictorConfig(8, 8),
)


def make(
    config: HiFiGANConfig = CONFIG, speakers: tuple[str, ...] = ("anna", "bert"), **options: int
) -> UnitVocoder:
    torch.manual_seed(0)
    return UnitVocoder(UnitHiFiGAN(config), SPEC, speakers, **options)


def sequence(n_units: int = 30, seed: int = 0) -> UnitSequence:
    """Frame-level units with repeats."""
    return UnitSequence(np.repeat(np.random.default_rng(seed).integers(20, size=n_units), 2), SPEC)


def test_it_is_a_vocoder() -> None:
    vocoder = make()
    assert isinstance(vocoder, Vocoder)
    assert vocoder.sample_rate == 16_000


@settings(max_examples=8, deadline=None)
@given(n_units=st.integers(1, 40), chunk_frames=st.integers(1, 50), seed=st.integers(0, 5))
def test_pieces_joined_equal_the_whole(n_units: int, chunk_frames: int, seed: int) -> None:
    units = sequence(n_units, seed)
    pieces = list(make(chunk_frames=chunk_frames).stream(units))
    assert max(len(piece) for piece in pieces) <= chunk_frames * 320
    np.testing.assert_allclose(np.concatenate(pieces), make(chunk_frames=10_000)(units), atol=1e-5)


def test_no_piece_reads_more_than_a_chunk_and_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder = make(chunk_frames=50)
    read: list[int] = []
    forward = vocoder.generator.forward
    monkeypatch.setattr(
        vocoder.generator, "forward", lambda u, *more: read.append(u.shape[1]) or forward(u, *more)
    )
    assert len(vocoder(sequence(300))) == 600 * 320
    assert len(read) == 12
    assert max(read) <= 50 + 2 * CONFIG.context_frames


def test_durations_given_are_used() -> None:
    vocoder, frames = make(), sequence()
    np.testing.assert_array_equal(vocoder(frames.deduplicate()), vocoder(frames))


def test_deduplicated_units_without_durations_get_predicted_ones() -> None:
    vocoder = make()
    units = dataclasses.replace(sequence().deduplicate(), durations=None)
    predicted = vocoder.generator.predict_durations(torch.from_numpy(units.units).unsqueeze(0))[0].numpy()
    wave = vocoder(units)
    assert len(wave) == predicted.sum() * 320
    np.testing.assert_array_equal(wave, vocoder(dataclasses.replace(units, durations=predicted)))
    assert len(vocoder(units, predict_durations=False)) == len(units.units) * 320


def test_a_generator_without_predictor_takes_units_as_frames() -> None:
    vocoder = make(dataclasses.replace(CONFIG, dur_predictor_params=None))
    units = UnitSequence(np.array([1, 2, 3]), SPEC)
    assert len(vocoder(units)) == 3 * 320
    with pytest.raises(InputError, match="duration predictor"):
        vocoder(units, predict_durations=True)


def test_the_first_speaker_is_the_default_and_speakers_differ() -> None:
    vocoder, units = make(), sequence()
    np.testing.assert_array_equal(vocoder(units), vocoder(units, "anna"))
    assert np.abs(vocoder(units, "bert") - vocoder(units, "anna")).max() > 1e-3
    with pytest.raises(InputError, match=r"anna, bert.*'carl'"):
        vocoder(units, "carl")


def test_nothing_said_is_silence_of_no_length() -> None:
    wave = make()(UnitSequence(np.zeros(0, dtype=np.int64), SPEC))
    assert wave.shape == (0,)
    assert wave.dtype == np.float32


def test_units_of_another_codebook_are_refused() -> None:
    other = dataclasses.replace(SPEC, codebook="ba9876543210")
    with pytest.raises(UnitSpecMismatch, match=r"codebook.*0123456789ab.*ba9876543210"):
        make()(UnitSequence(np.array([1, 2]), other))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.0), (torch.float16, 1e-3)])
def test_saved_and_loaded_it_speaks_the_same(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    vocoder, units = make(), sequence()
    vocoder.save(tmp_path / "vocoder", dtype=dtype)
    loaded = UnitVocoder.load(tmp_path / "vocoder")
    assert (loaded.spec, loaded.speakers, loaded.generator.config) == (SPEC, ("anna", "bert"), CONFIG)
    np.testing.assert_allclose(loaded(units, "bert"), vocoder(units, "bert"), atol=tolerance)
    assert sorted(path.name for path in (tmp_path / "vocoder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        UnitVocoder.load(tmp_path)
    make().save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        UnitVocoder.load(tmp_path)


def test_a_spoilt_part_is_named(tmp_path: Path) -> None:
    make().save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    described = json.loads(config.read_text())

    config.write_text(json.dumps(described | {"resblock_kernel_sizes": [3, 7]}))
    with pytest.raises(InputError, match=r"model\.safetensors.*size mismatch"):
        UnitVocoder.load(tmp_path)
    for spoilt in ("{", "[]", json.dumps({k: v for k, v in described.items() if k != "spec"})):
        config.write_text(spoilt)
        with pytest.raises(InputError, match=r"config\.json"):
            UnitVocoder.load(tmp_path)
    config.write_text(json.dumps(described))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        UnitVocoder.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "speakers", "named"),
    [
        ({"num_embeddings": 30}, ("anna",), "30"),
        ({"upsample_rates": (5, 4, 4, 2, 4)}, ("anna",), "640"),
        ({}, (), "speakers"),
        ({}, ("a", "b", "c", "d"), "at most 3"),
        ({"multispkr": False, "model_in_dim": 0}, ("anna",), "at most 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    changes: dict[str, object], speakers: tuple[str, ...], named: str
) -> None:
    generator = UnitHiFiGAN(dataclasses.replace(CONFIG, **changes))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=named):
        UnitVocoder(generator, SPEC, speakers)


F0_KINDS: dict[str, dict[str, object]] = {
    "continuous": {"f0": True},
    "bins": {"f0": True, "f0_quant_num_bin": 7},
    "finer": {"f0": True, "upsample_rates": (5, 4, 2, 2, 1), "upsample_kernel_sizes": (11, 8, 4, 4, 3)},
    "codes": {
        "f0": True,
        "f0_quantizer": F0QuantizerConfig(
            F0CodebookConfig(6, 4),
            F0EncoderConfig(output_emb_width=4, downs_t=(2,), strides_t=(2,), width=4, depth=1),
        ),
    },
}


def f0_for(kind: str, n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    if kind == "bins":
        return rng.integers(7, size=n_frames)
    return rng.normal(size=4 * n_frames if kind in ("codes", "finer") else n_frames).astype(np.float32)


@pytest.mark.parametrize("kind", F0_KINDS)
def test_f0_is_heard_and_pieces_join_to_the_whole(kind: str, tmp_path: Path) -> None:
    made = make(dataclasses.replace(CONFIG, model_in_dim=0, **F0_KINDS[kind]), chunk_frames=24)  # type: ignore[arg-type]
    if kind == "codes":
        made.generator.quantizer.vq.level_blocks[0].k.normal_()
    made.save(tmp_path)
    vocoder = UnitVocoder.load(tmp_path, chunk_frames=24)
    units = UnitSequence(sequence().expand().units[:40], SPEC)
    f0 = f0_for(kind, 40)
    wave = vocoder(units, predict_durations=False, f0=f0)
    assert len(wave) == 40 * 320
    vocoder.chunk_frames = 10_000
    np.testing.assert_allclose(vocoder(units, predict_durations=False, f0=f0), wave, atol=1e-5)
    assert np.abs(vocoder(units, predict_durations=False, f0=f0[::-1]) - wave).max() > 1e-4
    with pytest.raises(InputError, match="F0"):
        vocoder(units, predict_durations=False)
    with pytest.raises(InputError, match="F0"):
        vocoder(units, predict_durations=False, f0=f0[:-7])


def test_f0_for_a_vocoder_that_reads_none_is_refused() -> None:
    with pytest.raises(InputError, match="no F0"):
        make()(sequence(), f0=np.zeros(10, dtype=np.float32))


def signal_to_noise(wave: np.ndarray, exact: np.ndarray) -> float:
    """In dB."""
    return float(10 * np.log10((exact**2).mean() / ((wave - exact) ** 2).mean()))


def test_a_rounded_vocoder_speaks_nearly_the_same_for_as_long() -> None:
    folder = Path(__file__).parents[2] / "speechprompt" / "assets" / "mini" / "vocoder"
    exact = UnitVocoder.load(folder)
    rounded = UnitVocoder.load(folder, precision="bf16")
    draw = np.random.default_rng(0).permutation(100)  # no unit follows itself: durations are predicted
    units = UnitSequence(draw, exact.spec)
    wave, wanted = rounded(units), exact(units)
    assert wave.dtype == np.float32 and len(wave) == len(wanted)
    assert 35 < signal_to_noise(wave, wanted) < 80
    with pytest.raises(InputError, match="float32 or bf16"):
        UnitVocoder.load(folder, precision="fp8")


def test_rounded_weights_also_read_f0() -> None:
    generator = UnitHiFiGAN(dataclasses.replace(CONFIG, f0=True, model_in_dim=17)).eval()
    units, f0 = torch.from_numpy(sequence().units)[None], torch.rand(1, 60)
    with torch.inference_mode():
        exact = generator(units, torch.zeros(1, dtype=torch.long), f0).numpy()
        round_weights(generator)
        rounded = generator(units, torch.zeros(1, dtype=torch.long), f0).numpy()
    assert 30 < signal_to_noise(rounded, exact) < 80
