"""HubertEncoder equals transformers on a wave alone, and stays equal in any batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from units.audio import read_audio
from units.encoders.hubert import HubertEncoder
from units.errors import AudioError, InputError
from units.quantizer import CodebookQuantizer
from units.types import Encoder

KINDS = {
    "group-norm, post-norm": {"feat_extract_norm": "group"},
    "layer-norm, stable": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "batch norm before positions": {"feat_extract_norm": "group", "conv_pos_batch_norm": True},
    "wav2vec 2.0": {"family": "wav2vec2"},
    "wav2vec 2.0, stable": {"family": "wav2vec2", "feat_extract_norm": "layer", "do_stable_layer_norm": True},
    "WavLM": {"family": "wavlm"},
    "UniSpeech": {"family": "unispeech"},
    "UniSpeech-SAT": {"family": "unispeech-sat"},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def folder(request: pytest.FixtureRequest, make_encoder_folder: Callable[..., Path]) -> Path:
    return make_encoder_folder(**request.param)


@pytest.fixture
def hubert_folder(make_encoder_folder: Callable[..., Path]) -> Path:
    return make_encoder_folder()


def hidden_states(folder: Path, wave: np.ndarray, layer: int) -> torch.Tensor:
    """What transformers itself gives for one wave: (F, D)."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states[layer][0]


@pytest.mark.parametrize("layer", [1, 2])
def test_equals_transformers_on_one_wave(folder: Path, waves: list[np.ndarray], layer: int) -> None:
    encoder = HubertEncoder(folder, layer)
    for wave in waves[1:4]:
        features_1FD, counts_1 = encoder.encode([wave])
        expected_FD = hidden_states(folder, wave, layer)
        assert counts_1.tolist() == [len(expected_FD)]
        torch.testing.assert_close(features_1FD[0], expected_FD, atol=1e-5, rtol=1e-5)


def test_features_do_not_depend_on_the_batch(folder: Path, waves: list[np.ndarray]) -> None:
    encoder = HubertEncoder(folder, 2)
    together_BFD, counts_B = encoder.encode(waves)
    for row_FD, count, wave in zip(together_BFD, counts_B.tolist(), waves, strict=True):
        alone_1FD, (n_frames,) = encoder.encode([wave])
        assert count == n_frames == encoder.n_frames(len(wave))
        torch.testing.assert_close(row_FD[:count], alone_1FD[0], atol=1e-5, rtol=1e-5)
        assert not row_FD[count:].any()


def test_units_do_not_depend_on_the_batch(folder: Path, waves: list[np.ndarray]) -> None:
    encoder = HubertEncoder(folder, 2)
    features_BFD, counts_B = encoder.encode(waves)
    frames_nD = torch.cat([row_FD[:n] for row_FD, n in zip(features_BFD, counts_B, strict=True)])
    centroids_KD = frames_nD[:: len(frames_nD) // 50][:50].numpy()
    alone = [CodebookQuantizer(encoder, centroids_KD)([wave])[0].units for wave in waves]
    assert len(np.unique(np.concatenate(alone))) > 25  # a codebook in use, not one unit for all
    for max_batch_s in (0.5, 4.0, 1000.0):
        for order in (1, -1):
            together = CodebookQuantizer(encoder, centroids_KD, max_batch_s=max_batch_s)(waves[::order])
            for sequence, expected in zip(together[::order], alone, strict=True):
                np.testing.assert_array_equal(sequence.units, expected)


def test_units_of_real_speech_do_not_depend_on_the_batch(hubert_folder: Path, shared_data: Path) -> None:
    recordings = sorted((shared_data / "fsdd").rglob("*.flac"))[::90]
    speech = [
        read_audio(path)
        for path in [*recordings, *sorted((shared_data / "librispeech_9").rglob("*.flac"))[:1]]
    ]
    encoder = HubertEncoder(hubert_folder, 2)
    frames_FD = encoder.encode(speech[-1:])[0][0]
    quantizer = CodebookQuantizer(encoder, frames_FD[::5][:100].numpy())
    for wave, sequence in zip(speech, quantizer(speech), strict=True):
        np.testing.assert_array_equal(quantizer([wave])[0].units, sequence.units)


def test_plain_padding_would_change_the_features(hubert_folder: Path, waves: list[np.ndarray]) -> None:
    """The tests above have something to find: transformers' own padded batch is far from the single wave."""
    model = AutoModel.from_pretrained(hubert_folder, dtype=torch.float32).eval()
    short, long = torch.from_numpy(waves[1]), torch.from_numpy(waves[0])
    padded = torch.nn.utils.rnn.pad_sequence([long, short], batch_first=True)
    mask = torch.arange(len(long))[None] < torch.tensor([[len(long)], [len(short)]])
    with torch.no_grad():
        naive_FD = model(padded, attention_mask=mask.long()).last_hidden_state[1]
    alone_FD = hidden_states(hubert_folder, waves[1], 3)
    assert (naive_FD[: len(alone_FD)] - alone_FD).abs().max() > 0.01


def test_frame_counts_follow_the_convolutions(hubert_folder: Path) -> None:
    encoder = HubertEncoder(hubert_folder, 1)
    assert isinstance(encoder, Encoder)
    assert (encoder.hop_length, encoder.sample_rate) == (320, 16_000)
    shortest = next(n for n in range(2000) if encoder.n_frames(n) == 1)
    for n_samples in (shortest, shortest + 319, shortest + 320, shortest + 7 * 320 - 1):
        features_1FD, _ = encoder.encode([np.full(n_samples, 0.1, np.float32)])
        assert features_1FD.shape[1] == encoder.n_frames(n_samples) == 1 + (n_samples - shortest) // 320
    assert [encoder.n_frames(n) for n in (0, 1, shortest - 1)] == [0, 0, 0]


def test_only_the_needed_layers_are_loaded_and_results_are_the_same(
    hubert_folder: Path, waves: list[np.ndarray]
) -> None:
    encoder, whole = HubertEncoder(hubert_folder, 1), HubertEncoder(hubert_folder)
    assert (encoder.layer, whole.layer) == (1, 3)
    n_parameters = [sum(p.numel() for p in e._model.parameters()) for e in (encoder, whole)]
    assert n_parameters[0] < n_parameters[1]
    torch.testing.assert_close(
        encoder.encode(waves[2:3])[0][0], hidden_states(hubert_folder, waves[2], 1), atol=1e-5, rtol=1e-5
    )


def test_weights_stored_in_half_precision_are_computed_in_float32(hubert_folder: Path) -> None:
    encoder = HubertEncoder(hubert_folder, 2)
    assert {p.dtype for p in encoder._model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in encoder._model.parameters())


def test_bfloat16_stays_near_float32(folder: Path, waves: list[np.ndarray]) -> None:
    exact_BFD, _ = HubertEncoder(folder, 2).encode(waves[:3])
    rough_BFD, _ = HubertEncoder(folder, 2, dtype=torch.bfloat16).encode(waves[:3])
    assert rough_BFD.dtype == torch.float32
    error = (rough_BFD - exact_BFD).square().mean() / exact_BFD.square().mean()
    assert 0 < error < 1e-2


def test_waves_are_normalised_exactly_if_the_folder_asks(
    hubert_folder: Path, waves: list[np.ndarray], tmp_path: Path
) -> None:
    shutil.copytree(hubert_folder, tmp_path / "asks")
    settings = {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "sampling_rate": 16_000,
    }
    (tmp_path / "asks" / "preprocessor_config.json").write_text(json.dumps(settings))
    wave = waves[1] * 0.01 + 0.2
    normal = ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
    asked, _ = HubertEncoder(tmp_path / "asks", 2).encode([wave])
    plain, _ = HubertEncoder(hubert_folder, 2).encode([wave])
    by_hand, _ = HubertEncoder(hubert_folder, 2).encode([normal])
    torch.testing.assert_close(asked, by_hand, atol=1e-4, rtol=1e-4)
    assert (asked - plain).abs().max() > 0.01


def test_loading_says_nothing(hubert_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    HubertEncoder(hubert_folder, 1)
    assert capfd.readouterr() == ("", "")


def test_names(hubert_folder: Path) -> None:
    assert HubertEncoder(hubert_folder, 1).name == hubert_folder.name
    assert HubertEncoder(hubert_folder, 1, name="mini").name == "mini"


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_is_not_there(hubert_folder: Path, layer: int) -> None:
    with pytest.raises(InputError, match=r"layer in 1 to 3, got"):
        HubertEncoder(hubert_folder, layer)


def test_what_is_not_an_encoder(tmp_path: Path, hubert_folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        HubertEncoder(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="got 'bert'"):
        HubertEncoder(tmp_path)
    shutil.copytree(hubert_folder, tmp_path / "altered")
    config = json.loads((tmp_path / "altered" / "config.json").read_text())
    (tmp_path / "altered" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 9}))
    with pytest.raises(InputError, match="missing or misshapen"):
        HubertEncoder(tmp_path / "altered", 5)
    (tmp_path / "altered" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="altered"):
        HubertEncoder(tmp_path / "altered", 1)
    (tmp_path / "altered" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="altered"):
        HubertEncoder(tmp_path / "altered", 1)


def test_too_short_a_wave_is_the_users_error(hubert_folder: Path, waves: list[np.ndarray]) -> None:
    encoder = HubertEncoder(hubert_folder, 1)
    with pytest.raises(AudioError, match=r"5\.0 ms"):
        encoder.encode([waves[0], np.zeros(80, np.float32)])
    with pytest.raises(AudioError):
        encoder.encode([])


def test_features_equal_encode_and_let_gradients_through(folder: Path, waves: list[np.ndarray]) -> None:
    encoder = HubertEncoder(folder)
    n_samples = min(len(wave) for wave in waves)
    cut = [wave[:n_samples] for wave in waves[:3]]
    encoded_BFD, _ = encoder.encode(cut)
    wave_BN = torch.from_numpy(np.stack(cut)).requires_grad_()
    features_BFD = encoder.features(wave_BN)
    torch.testing.assert_close(features_BFD.detach(), encoded_BFD, atol=1e-5, rtol=1e-5)
    features_BFD.square().mean().backward()
    assert wave_BN.grad is not None
    assert (wave_BN.grad != 0).any(dim=1).all()
