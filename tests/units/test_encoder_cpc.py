"""CPCEncoder: chunks, levels, and features that do not depend on the batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from units.encoders.cpc import CPCEncoder, pieces
from units.encoders.cpc_network import NORMS, RECURRENT, CPCConfig, CPCNetwork, n_frames
from units.errors import AudioError, InputError
from units.types import Encoder


def make_folder(folder: Path, **kinds: str) -> Path:
    torch.manual_seed(0)
    config = CPCConfig(8, 12, 3, **kinds)
    network = CPCNetwork(config)
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "model.safetensors")
    data = {"model_type": "cpc", "network": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "encoder")


@pytest.fixture
def noises() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=n).astype(np.float32) for n in (4000, 1999, 319, 2400)]


OPTIONS = [
    {},
    {"max_chunk": 800},
    {"max_chunk": 800, "normalize": True},
    {"max_chunk": 800, "remainder": "last"},
    {"max_chunk": 800, "remainder": "short", "keep_hidden": True},
    {"max_chunk": None},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_features_do_not_depend_on_the_batch(
    folder: Path, noises: list[np.ndarray], options: dict[str, object]
) -> None:
    encoder = CPCEncoder(folder, 2, **options)  # type: ignore[arg-type]
    assert isinstance(encoder, Encoder)
    together_BFD, counts_B = encoder.encode(noises)
    for row_FD, count, wave in zip(together_BFD, counts_B.tolist(), noises, strict=True):
        [alone_FD], [n] = encoder.encode([wave])
        assert count == int(n) == len(alone_FD) == encoder.n_frames(len(wave))
        torch.testing.assert_close(row_FD[:count], alone_FD, atol=1e-6, rtol=1e-5)
        assert not row_FD[count:].any()


@pytest.mark.parametrize("context", RECURRENT)
@pytest.mark.parametrize("norm", NORMS)
def test_every_kind_gives_frames_of_its_width(tmp_path: Path, context: str, norm: str) -> None:
    folder = make_folder(tmp_path / "encoder", context=context, norm=norm)
    wave = np.random.default_rng(0).normal(size=1600).astype(np.float32)
    assert CPCEncoder(folder, 3).encode([wave])[0].shape == (1, 10, 12)
    assert CPCEncoder(folder, 0).encode([wave])[0].shape == (1, 10, 8)
    assert CPCEncoder(folder, 0).n_features == 8
    assert torch.isfinite(CPCEncoder(folder).encode([wave])[0]).all()


def test_a_level_is_that_of_the_whole_network(folder: Path, noises: list[np.ndarray]) -> None:
    lower, upper = (CPCEncoder(folder, layer, max_chunk=None) for layer in (1, 3))
    assert not torch.allclose(lower.encode(noises[:1])[0], upper.encode(noises[:1])[0])
    assert CPCEncoder(folder, max_chunk=None).layer == 3
    network = upper._network
    convolved = network.gEncoder(torch.from_numpy(noises[0])[None])
    torch.testing.assert_close(network.gAR(convolved), upper.encode(noises[:1])[0])


@pytest.mark.parametrize("n_samples", [159, 160, 320, 800, 801, 1600, 1700, 4000, 16100])
@pytest.mark.parametrize("remainder", ["whole", "last", "short"])
def test_pieces_cover_the_wave(n_samples: int, remainder: str) -> None:
    read = [piece for piece in pieces(n_samples, 800, remainder) if piece.kept]
    kept = sum(piece.kept for piece in read)
    assert n_samples // 160 - 1 <= kept <= (n_samples + 1) // 160 + 1
    assert all(piece.kept <= n_frames(piece.end - piece.start) for piece in read)
    assert all(0 <= piece.start < piece.end <= n_samples for piece in read)
    assert all(piece.end - piece.start <= 800 or remainder == "whole" for piece in read)


def test_frames_are_one_each_160_samples() -> None:
    assert [n_frames(n) for n in (0, 158, 159, 160, 318, 319, 16000)] == [0, 0, 1, 1, 1, 2, 100]


def test_the_remainder_comes_from_the_whole_wave(folder: Path, noises: list[np.ndarray]) -> None:
    wave = noises[0][:1000]
    whole = CPCEncoder(folder, 2, max_chunk=None).encode([wave])[0][0]
    chunked = CPCEncoder(folder, 2, max_chunk=800).encode([wave])[0][0]
    torch.testing.assert_close(chunked[-1], whole[-1])
    torch.testing.assert_close(chunked[:4], whole[:4])  # the last frame of a chunk sees its border
    short = CPCEncoder(folder, 2, max_chunk=800, remainder="short").encode([wave])[0][0]
    assert not torch.allclose(short[-1], whole[-1])


def test_state_goes_on_from_chunk_to_chunk_but_not_from_wave_to_wave(
    folder: Path, noises: list[np.ndarray]
) -> None:
    wave = noises[0][:1600]
    fresh, carried = (
        CPCEncoder(folder, 2, max_chunk=800, remainder="short", keep_hidden=keep) for keep in (False, True)
    )
    torch.testing.assert_close(carried.encode([wave])[0][0, :5], fresh.encode([wave])[0][0, :5])
    assert not torch.allclose(carried.encode([wave])[0][0, 5:], fresh.encode([wave])[0][0, 5:])
    torch.testing.assert_close(carried.encode([wave])[0], carried.encode([wave])[0])


def test_normalised_features_have_zero_mean_and_unit_variance(folder: Path, noises: list[np.ndarray]) -> None:
    features = CPCEncoder(folder, 2, normalize=True).encode(noises[:1])[0][0]
    torch.testing.assert_close(features.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.var(0), torch.ones(12), atol=1e-3, rtol=0)


def test_what_cannot_be_read_is_refused(folder: Path, noises: list[np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="at least one frame"):
        CPCEncoder(folder).encode([noises[0], noises[0][:100]])
    with pytest.raises(InputError, match="layer in 0 to 3"):
        CPCEncoder(folder, 4)
    with pytest.raises(InputError, match="remainder"):
        CPCEncoder(folder, remainder="none")
    with pytest.raises(InputError, match="160 samples"):
        CPCEncoder(folder, max_chunk=100)
    with pytest.raises(InputError, match="'short' with keep_hidden"):
        CPCEncoder(folder, keep_hidden=True)
    with pytest.raises(InputError, match="encoder folder"):
        CPCEncoder(tmp_path / "nowhere")
    config = json.loads((folder / "config.json").read_text())
    config["network"]["n_levels"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="missing or unknown"):
        CPCEncoder(folder, 2)
    config["network"]["context"] = "transformer"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="LSTM, GRU, RNN"):
        CPCEncoder(folder)


@pytest.mark.parametrize("n_samples", [160, 1599, 1600, 7999])
def test_a_short_wave_read_strictly_gives_whole_frames_only(n_samples: int) -> None:
    [piece] = pieces(n_samples, 8000, "last")
    assert (piece.start, piece.end, piece.kept) == (0, n_samples, n_samples // 160)


def plain_features(weights: dict[str, np.ndarray], config: CPCConfig, wave: np.ndarray) -> np.ndarray:
    """What the released network gives in evaluation mode, by its formulas alone."""
    at = {name: value.astype(np.float64) for name, value in weights.items()}
    x_CN = wave.astype(np.float64)[None]
    for index, (kernel, stride, padding) in enumerate(
        ((10, 5, 3), (8, 4, 2), (4, 2, 1), (4, 2, 1), (4, 2, 1))
    ):
        padded = np.pad(x_CN, ((0, 0), (padding, padding)))
        n_frames = (padded.shape[1] - kernel) // stride + 1
        windows = np.stack([padded[:, i * stride : i * stride + kernel] for i in range(n_frames)])
        x_CN = np.einsum("fik,oik->of", windows, at[f"gEncoder.conv{index}.weight"])
        x_CN = x_CN + at[f"gEncoder.conv{index}.bias"][:, None]
        name = f"gEncoder.batchNorm{index}"
        if config.norm == "layerNorm":
            x_CN = (x_CN - x_CN.mean(0)) / np.sqrt(x_CN.var(0, ddof=1) + 1e-5)
        elif config.norm == "instanceNorm":
            x_CN = (x_CN - x_CN.mean(1, keepdims=True)) / np.sqrt(x_CN.var(1, keepdims=True) + 1e-5)
        elif config.norm == "batchNorm":
            variance = at[f"{name}.running_var"][:, None]
            x_CN = (x_CN - at[f"{name}.running_mean"][:, None]) / np.sqrt(variance + 1e-5)
        if config.norm != "ID":
            x_CN = x_CN * at[f"{name}.weight"].reshape(-1, 1) + at[f"{name}.bias"].reshape(-1, 1)
        x_CN = np.maximum(x_CN, 0)
    x_FC = x_CN.T
    for level in range(config.n_levels):
        input_GC, state_GD, input_G, state_G = (
            at[f"gAR.baseNet.{part}_l{level}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h_D, c_D = np.zeros(config.hidden_context), np.zeros(config.hidden_context)
        outputs = []
        for x_C in x_FC:
            a_G, b_G = input_GC @ x_C + input_G, state_GD @ h_D + state_G
            if config.context == "RNN":
                h_D = np.tanh(a_G + b_G)
            elif config.context == "LSTM":
                i, f, g, o = np.split(a_G + b_G, 4)
                c_D = sigmoid(f) * c_D + sigmoid(i) * np.tanh(g)
                h_D = sigmoid(o) * np.tanh(c_D)
            else:
                (ar, az, an), (br, bz, bn) = np.split(a_G, 3), np.split(b_G, 3)
                z = sigmoid(az + bz)
                h_D = (1 - z) * np.tanh(an + sigmoid(ar + br) * bn) + z * h_D
            outputs.append(h_D)
        x_FC = np.stack(outputs)
    return x_FC


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("context", RECURRENT)
def test_every_kind_of_network_is_what_its_formulas_say(norm: str, context: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "encoder", norm=norm, context=context)
    generator = np.random.default_rng(1)
    weights = load_file(folder / "model.safetensors")
    for name, value in weights.items():  # a fresh norm's scale, shift and statistics are trivial
        if "batchNorm" in name and value.dtype == np.float32:
            weights[name] = (0.5 + generator.random(value.shape)).astype(np.float32)
    save_arrays(weights, folder / "model.safetensors")
    wave = generator.normal(size=1999).astype(np.float32)
    features_BFD, counts_B = CPCEncoder(folder).encode([wave])
    expected = plain_features(weights, CPCConfig(8, 12, 3, context=context, norm=norm), wave)
    assert counts_B.tolist() == [len(expected)]
    np.testing.assert_allclose(features_BFD[0], expected, atol=1e-5, rtol=1e-4)
