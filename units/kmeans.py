"""The codebook: k-means centroids fitted on a stream of features, their identity, their file, and assignment.

Shapes: n frames, K centroids, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from units.atomic import atomic_path
from units.errors import InputError, UnitSpecMismatch
from units.types import UnitSpec

_METADATA_KEY = "unit_spec"


def fit_codebook(
    batches: Iterable[np.ndarray],
    n_units: int,
    *,
    seed: int = 0,
    n_passes: int = 1,
    batch_frames: int = 20_000,
) -> np.ndarray:
    """Fit a codebook on a stream, holding about two batches in memory.

    The first `batch_frames` frames are clustered by k-means, best of three k-means++ starts: where they are a
    fair sample, the stream only refines the result. So shuffle utterances before. Then mini-batch k-means
    (Sculley, "Web-scale k-means clustering", 2010) runs over the whole stream, the first frames included.

    batches: arrays (n, D) of any n. n_units: K. batch_frames: frames per mini-batch step. n_passes: times to
    read the stream; more than one needs an iterable that can be read again (a list, not a generator).
    Returns centroids (K, D) float32.
    Raises InputError: fewer than K frames, frames that are not finite, or an iterator with n_passes > 1.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # here: quantizing need not wait for this import

    if n_passes > 1 and iter(batches) is batches:
        raise InputError(
            "batches: expected an iterable that can be read again for n_passes > 1, got an iterator"
        )
    stream = _regroup(batches, batch_frames)
    first_nD = next(stream, np.zeros((0, 1), dtype=np.float32))
    if len(first_nD) < n_units:
        raise InputError(
            f"features: expected at least {n_units} frames for {n_units} units, got {len(first_nD)}; add audio"
        )
    start = KMeans(n_units, n_init=3, max_iter=50, random_state=seed).fit(first_nD)
    model = MiniBatchKMeans(
        n_units, init=start.cluster_centers_, n_init=1, random_state=seed, reassignment_ratio=0.0
    )
    passes = [chain([first_nD], stream), *(_regroup(batches, batch_frames) for _ in range(n_passes - 1))]
    for batch_nD in chain.from_iterable(passes):
        model.partial_fit(batch_nD)
    return np.ascontiguousarray(model.cluster_centers_, dtype=np.float32)


def assign(features: Tensor, centroids: Tensor, *, chunk_frames: int = 65_536) -> Tensor:
    """Give each feature (..., D) the index of its nearest centroid (K, D): int64 of shape (...), ties to the lowest.

    The distance is compared as |c|^2 - 2 x.c; `chunk_frames` bounds the (frames, K) table held at once.
    Raises UnitSpecMismatch where the widths differ: the codebook belongs to another encoder or layer.
    """
    if features.shape[-1] != centroids.shape[-1]:
        raise UnitSpecMismatch(
            f"features and codebook: expected width {centroids.shape[-1]} as in the codebook, got "
            f"{features.shape[-1]}; use the encoder that the codebook was fitted on"
        )
    flat_nD = features.reshape(-1, features.shape[-1]).float()
    centroids_KD = centroids.to(flat_nD)
    norms_K = centroids_KD.square().sum(dim=-1)
    chunks = flat_nD.split(chunk_frames)
    nearest = [torch.addmm(norms_K, x_nD, centroids_KD.T, alpha=-2.0).argmin(dim=-1) for x_nD in chunks]
    return torch.cat(nearest).reshape(features.shape[:-1])


def codebook_id(centroids: np.ndarray) -> str:
    """Identify a codebook: sha256 of the centroids as little-endian float32 in row order, first 12 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(centroids, dtype="<f4").tobytes()).hexdigest()[:12]


def save_codebook(path: str | Path, centroids: np.ndarray, spec: UnitSpec) -> None:
    """Write centroids (K, D) and their spec to one safetensors file, atomically.

    Raises UnitSpecMismatch where `spec` does not describe `centroids`.
    """
    _require_match(Path(path), centroids, spec)
    with atomic_path(path) as temporary:
        tensors = {"centroids": np.ascontiguousarray(centroids, dtype=np.float32)}
        temporary.write_bytes(save(tensors, metadata={_METADATA_KEY: json.dumps(spec.to_dict())}))


def load_codebook(path: str | Path) -> tuple[np.ndarray, UnitSpec]:
    """Read what `save_codebook` wrote: centroids (K, D) float32 and their spec.

    Raises InputError: missing, or not a codebook file; UnitSpecMismatch: centroids that its spec does not
    describe.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: expected a codebook file, got no such file; check the path")
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            centroids = opened.get_tensor("centroids")
    except SafetensorError as error:
        raise InputError(
            f"{file}: expected a codebook in safetensors, got a file that is not ({error})"
        ) from error
    if _METADATA_KEY not in metadata:
        raise InputError(
            f"{file}: expected a UnitSpec in the metadata, got none; write it with save_codebook"
        )
    try:
        spec = UnitSpec.from_dict(json.loads(metadata[_METADATA_KEY]))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}: expected a UnitSpec in the metadata, got {error}; restore the file"
        ) from error
    _require_match(file, centroids, spec)
    return centroids, spec


def _require_match(file: Path, centroids: np.ndarray, spec: UnitSpec) -> None:
    actual = replace(spec, n_units=len(centroids), codebook=codebook_id(centroids))
    spec.require_equal(actual, f"{file}: the UnitSpec", "the centroids")


def _regroup(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut a stream of (n, D) arrays into (size, D) float32 arrays, the last one shorter; checks that all is finite."""
    held: list[np.ndarray] = []
    n_held = 0
    for batch_nD in batches:
        if not np.isfinite(batch_nD).all():
            raise InputError(
                "features: expected finite numbers, got NaN or infinity; check encoder and audio"
            )
        held.append(np.asarray(batch_nD, dtype=np.float32))
        n_held += len(batch_nD)
        while n_held >= size:
            joined_nD = np.concatenate(held)
            yield joined_nD[:size]
            held, n_held = [joined_nD[size:]], n_held - size
    if n_held:
        yield np.concatenate(held)
