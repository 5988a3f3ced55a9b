"""Planted clusters are found again, assignment is the nearest centroid, files keep their identity."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.cluster import MiniBatchKMeans

from units.errors import InputError, UnitSpecMismatch
from units.kmeans import assign, codebook_id, fit_codebook, load_codebook, save_codebook
from units.types import UnitSpec


def planted(n_clusters: int = 25, n_features: int = 8, n_frames: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    centres_KD = rng.normal(0, 10, (n_clusters, n_features))
    frames_nD = centres_KD[rng.integers(0, n_clusters, n_frames)] + rng.normal(0, 0.3, (n_frames, n_features))
    return centres_KD.astype(np.float32), frames_nD.astype(np.float32)


def described(centroids: np.ndarray) -> UnitSpec:
    return UnitSpec("some-encoder", 3, len(centroids), 50.0, codebook_id(centroids))


@pytest.mark.parametrize("n_passes", [1, 2])
def test_planted_clusters_are_recovered_from_a_stream(n_passes: int) -> None:
    centres_KD, frames_nD = planted()
    batches = np.array_split(frames_nD, 37)
    found_KD = fit_codebook(batches, len(centres_KD), n_passes=n_passes, batch_frames=2000)
    assert found_KD.dtype == np.float32 and found_KD.shape == centres_KD.shape
    distances_KK = np.linalg.norm(centres_KD[:, None] - found_KD[None], axis=-1)
    assert (distances_KK.min(axis=1) < 0.2).all()
    assert sorted(distances_KK.argmin(axis=1)) == list(range(len(centres_KD)))


def test_later_frames_count() -> None:
    """The stream is read to its end, not only its first batch."""
    early = np.random.default_rng(0).normal(0, 1, (500, 2))
    drifted = [early, *[early + np.array([4.0, 0.0])] * 9]
    assert fit_codebook(drifted, 1, batch_frames=500)[0, 0] == pytest.approx(
        early.mean(axis=0)[0] + 3.6, abs=0.01
    )


def test_fitting_is_seeded_and_does_not_depend_on_how_the_stream_is_cut() -> None:
    _, frames_nD = planted(n_frames=3000)
    whole = fit_codebook([frames_nD], 10, seed=1, batch_frames=700)
    cut = fit_codebook(iter(np.array_split(frames_nD, 61)), 10, seed=1, batch_frames=700)
    np.testing.assert_array_equal(whole, cut)


def test_only_a_bounded_part_of_the_stream_is_held() -> None:
    alive: list[int] = []

    def stream():  # type: ignore[no-untyped-def]
        for index in range(20):
            alive.append(index)
            yield np.random.default_rng(index).normal(size=(100, 3))

    pulled_when_stepping: list[int] = []
    original = MiniBatchKMeans.partial_fit

    def spy(self, batch, *args):  # type: ignore[no-untyped-def]
        pulled_when_stepping.append(len(alive) * 100)
        return original(self, batch, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MiniBatchKMeans, "partial_fit", spy)
        fit_codebook(stream(), 4, batch_frames=250)
    assert pulled_when_stepping[0] <= 300 and len(pulled_when_stepping) == 8


def test_what_cannot_be_fitted() -> None:
    frames = np.zeros((50, 4), np.float32)
    with pytest.raises(InputError, match="at least 100 frames for 100 units, got 50"):
        fit_codebook([frames], 100)
    with pytest.raises(InputError, match="got 0"):
        fit_codebook([], 2)
    with pytest.raises(InputError, match="NaN"):
        fit_codebook([np.full((50, 4), np.nan)], 2)
    with pytest.raises(InputError, match="iterator"):
        fit_codebook(iter([frames]), 2, n_passes=2)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), max_size=3),
    n_units=st.integers(1, 20),
    width=st.integers(1, 9),
    chunk=st.integers(1, 50),
)
def test_assignment_is_the_nearest_centroid(shape: list[int], n_units: int, width: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(n_units)
    features = torch.randn(*shape, width, generator=generator)
    centroids_KD = torch.randn(n_units, width, generator=generator)
    units = assign(features, centroids_KD, chunk_frames=chunk)
    assert units.dtype == torch.int64 and units.shape == tuple(shape)
    distances = (features[..., None, :].double() - centroids_KD.double()).square().sum(-1)
    chosen = distances.gather(-1, units[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.min(dim=-1).values, atol=1e-5, rtol=1e-5)


def test_centroids_are_their_own_units() -> None:
    centres_KD, _ = planted()
    assert assign(torch.from_numpy(centres_KD), torch.from_numpy(centres_KD)).tolist() == list(range(25))


def test_assigning_features_of_another_width() -> None:
    with pytest.raises(UnitSpecMismatch, match="expected width 4 as in the codebook, got 5"):
        assign(torch.zeros(3, 5), torch.zeros(2, 4))


def test_identity_is_of_values_not_of_layout() -> None:
    centres_KD, _ = planted()
    assert codebook_id(centres_KD) == codebook_id(np.asfortranarray(centres_KD.astype(np.float64)))
    assert codebook_id(centres_KD) != codebook_id(centres_KD[::-1])
    little_endian = bytes.fromhex("0000803f 00000040")
    assert codebook_id(np.array([[1.0, 2.0]])) == hashlib.sha256(little_endian).hexdigest()[:12]


def test_file_round_trip(tmp_path: Path) -> None:
    centres_KD, _ = planted()
    save_codebook(tmp_path / "codebook.safetensors", centres_KD[:, ::2], described(centres_KD[:, ::2]))
    centroids, spec = load_codebook(tmp_path / "codebook.safetensors")
    np.testing.assert_array_equal(centroids, centres_KD[:, ::2])
    assert spec == described(centres_KD[:, ::2])


def test_a_codebook_of_another_spec_is_refused(tmp_path: Path) -> None:
    centres_KD, _ = planted()
    spec = described(centres_KD)
    for wrong in (replace(spec, n_units=24), replace(spec, codebook="000000000000")):
        with pytest.raises(UnitSpecMismatch):
            save_codebook(tmp_path / "a.safetensors", centres_KD, wrong)
    assert list(tmp_path.iterdir()) == []
    save_codebook(tmp_path / "a.safetensors", centres_KD, spec)
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UnitSpecMismatch, match=r"a\.safetensors"):
        load_codebook(tmp_path / "a.safetensors")


def test_files_that_are_no_codebook(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_codebook(tmp_path / "missing")
    (tmp_path / "text").write_text("centroids")
    with pytest.raises(InputError, match="safetensors"):
        load_codebook(tmp_path / "text")
    save_file({"weights": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(InputError, match="other"):
        load_codebook(tmp_path / "other")
    save_file({"centroids": np.zeros((3, 2), np.float32)}, tmp_path / "bare")
    with pytest.raises(InputError, match="UnitSpec"):
        load_codebook(tmp_path / "bare")
