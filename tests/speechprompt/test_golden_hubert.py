"""Converted HuBERT checkpoints against features and units that the reference implementation computed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechprompt.convert.hubert import convert
from speechprompt.fairseq import read_fairseq
from units.encoders.hubert import HubertEncoder
from units.kmeans import assign
from units.safe_pickle import read_joblib_kmeans

FEATURES = {"atol": 1e-4, "rtol": 1e-4}


ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden"))
VARIANTS = sorted(file.parent.name for file in GOLDEN.glob("hubert/*/spec.json")) or ["base"]


@pytest.fixture(scope="module", params=VARIANTS)
def converted(request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A golden folder's name, its spec, arrays, and the folder it was converted to."""
    source = golden / "hubert" / request.param
    to = tmp_path_factory.mktemp("hubert") / request.param
    result = convert(read_fairseq(source / "checkpoint.pt"), to)
    spec = json.loads((source / "spec.json").read_text(encoding="utf-8"))
    return request.param, spec, np.load(source / "golden.npz"), result


def waves(golden: Path) -> dict[str, np.ndarray]:
    return {
        name: soundfile.read(golden / "audio" / f"{name}.wav", dtype="float32")[0] for name in ("a1", "a2")
    }


def test_golden_features_of_every_layer(converted: Any, golden: Path) -> None:
    _, spec, arrays, result = converted
    names = [name for name in arrays if name.startswith("feats_") and name.rsplit("layer", 1)[1].isdecimal()]
    assert len(names) >= 3
    for name in names:
        _, wave, layer = name.split("_")
        encoder = HubertEncoder(result.to, int(layer.removeprefix("layer")))
        assert encoder.normalize == spec["config"]["normalize"]
        features_BFD, _ = encoder.encode([waves(golden)[wave]])
        torch.testing.assert_close(features_BFD[0], torch.from_numpy(arrays[name]), **FEATURES)


def test_golden_features_of_chunks(converted: Any, golden: Path) -> None:
    _, spec, arrays, result = converted
    [name] = [name for name in arrays if "_chunk" in name]
    _, wave, layer, chunk = name.split("_")
    encoder = HubertEncoder(result.to, int(layer.removeprefix("layer")))
    wave_N = torch.from_numpy(waves(golden)[wave])
    if spec["config"]["normalize"]:  # over the whole file, then cut
        wave_N = torch.nn.functional.layer_norm(wave_N, wave_N.shape)
        encoder.normalize = False
    pieces = [piece.numpy() for piece in wave_N.split(int(chunk.removeprefix("chunk")))]
    got_FD = torch.cat([encoder.encode([piece])[0][0] for piece in pieces if encoder.n_frames(len(piece))])
    torch.testing.assert_close(got_FD, torch.from_numpy(arrays[name]), **FEATURES)


def padded_batch(converted: Any, golden: Path) -> tuple[HubertEncoder, list[str], np.ndarray, np.ndarray]:
    """Encoder of the layer of the golden padded batch, names of its rows, features (B, F, D), padding (B, F)."""
    _, _, arrays, result = converted
    [name] = [name for name in arrays if name.startswith("padded_batch_feats_layer")]
    encoder = HubertEncoder(result.to, int(name.rsplit("layer", 1)[1]))
    features, padding = arrays[name], arrays["padded_batch_out_mask"]
    assert len(features) == len(waves(golden))
    return encoder, sorted(waves(golden)), features, padding


def test_golden_batch_of_unequal_lengths(converted: Any, golden: Path) -> None:
    """Ours does not depend on padding; the reference's does, but for the row that has none.

    The reference's convolutions read the zeros behind a shorter wave, and it counts a frame as padding only where all
    of the samples it assigns to it are: the last frame of a shorter row can be one that the wave alone does not have.
    Those rows of ours equal what the reference gives for the wave alone, which its padded batch does not.
    """
    _, spec, arrays, _ = converted
    encoder, names, expected_BFD, padding_BF = padded_batch(converted, golden)
    got_BFD, counts_B = encoder.encode([waves(golden)[name] for name in names])
    assert got_BFD.shape == expected_BFD.shape
    assert not padding_BF.all(1).any() and (~padding_BF.any(1)).sum() >= 1
    distance = []
    for i, name in enumerate(names):
        n_frames = int(counts_B[i])
        if not padding_BF[i].any():
            torch.testing.assert_close(got_BFD[i], torch.from_numpy(expected_BFD[i]), **FEATURES)
            continue
        assert not got_BFD[i, n_frames:].any()
        alone = arrays[f"feats_{name}_layer{encoder.layer}"]
        torch.testing.assert_close(got_BFD[i, :n_frames], torch.from_numpy(alone), **FEATURES)
        distance.append(np.abs(expected_BFD[i, :n_frames] - alone).max())
    assert max(distance) == pytest.approx(spec["measured"]["padded_batch_vs_single_max_abs"], rel=1e-3)


def test_golden_padded_batch_is_ours_with_convolutions_over_the_padding(converted: Any, golden: Path) -> None:
    """What makes the reference depend on padding, done on purpose, gives the reference's features in all rows."""
    encoder, names, expected_BFD, padding_BF = padded_batch(converted, golden)
    is_normalised, encoder.normalize = encoder.normalize, False
    rows = [torch.from_numpy(waves(golden)[name]) for name in names]
    if is_normalised:  # each wave alone, before padding
        rows = [torch.nn.functional.layer_norm(wave_N, wave_N.shape) for wave_N in rows]
    wave_BN = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    counts_B = torch.from_numpy((~padding_BF).sum(1))
    with torch.inference_mode():
        got_BFD = encoder._transform(encoder._convolve(wave_BN), counts_B)
    real_BF = torch.from_numpy(~padding_BF)
    torch.testing.assert_close(got_BFD[real_BF], torch.from_numpy(expected_BFD)[real_BF], **FEATURES)


def test_every_tensor_is_used_or_ignored_with_a_reason_golden(converted: Any) -> None:
    _, spec, _, result = converted
    assert "label_embs_concat" in result.ignored and all(result.ignored.values())
    assert not [name for name in result.ignored if name.startswith(("encoder", "feature_extractor"))]
    assert result.dimensions["num_hidden_layers"] == spec["config"]["layers"]


def test_golden_units(converted: Any, golden: Path) -> None:
    variant, _, _, result = converted
    if variant != "base":
        pytest.skip("the golden codebooks were fitted on the features of base")
    arrays = np.load(golden / "kmeans" / "golden.npz")
    notes = " ".join(json.loads((golden / "kmeans" / "spec.json").read_text(encoding="utf-8"))["notes"])
    found = re.search(r"hubert/base\S* \S*_layer(\d+)", notes)
    assert found is not None
    encoder = HubertEncoder(result.to, int(found[1]))
    files = sorted((golden / "kmeans").glob("hubert_km_*.bin"))
    assert files
    for file in files:
        centroids_KD = read_joblib_kmeans(file)
        stem = file.stem.replace("_km", "")
        np.testing.assert_array_equal(centroids_KD, arrays[f"{stem}_centers"])
        for name, wave in waves(golden).items():
            features_BFD, _ = encoder.encode([wave])
            units = assign(features_BFD[0], torch.from_numpy(centroids_KD))
            np.testing.assert_array_equal(units.numpy(), arrays[f"{stem}_units_{name}"])
