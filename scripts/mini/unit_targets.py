"""What units are to tell, without any label: fine clusters of frames, and clusters of whole words.

K-means at 100 units spends its centroids where features vary most. Here several hundred clusters of each source say
what a frame sounds like, and clusters of short clips, each one word, say which clips sound alike from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans

from units.kmeans import assign, fit_codebook

DIRECTIONS = 192  # principal directions of a frame's features that count, all alike
WORD_DIRECTIONS = 100  # and of a word's
SEGMENTS = 6  # parts of a word whose mean features describe it
MAX_FRAMES = 60_000  # that clusters are fitted on


@dataclass(frozen=True)
class SourceTargets:
    """A group of sources that is clustered by itself.

    n_word_clusters: 0 where word clusters are not told. frame_weight: of its frames in the loss. share: of draws.
    by_speaker: clusters are found, as many as that, within each speaker, and only there have to be told apart: what
    differs between speakers then says nothing about them.
    """

    sources: tuple[str, ...]
    n_frame_clusters: int
    n_word_clusters: int
    frame_weight: float
    share: float
    by_speaker: bool = False


def whitening(values_ND: np.ndarray, n_directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and matrix (D, n_directions) that make the principal directions of (N, D) vary alike, float32."""
    mean_D = values_ND.mean(0, dtype=np.float64)
    variance_D, vectors_DD = np.linalg.eigh(np.cov(values_ND.T, dtype=np.float64))
    variance_C, vectors_DC = variance_D[-n_directions:], vectors_DD[:, -n_directions:]
    floor = 1e-3 * variance_D.mean()  # directions of next to no variance are not blown up
    matrix_DC = vectors_DC / np.sqrt(np.maximum(variance_C, floor))
    return mean_D.astype(np.float32), matrix_DC.astype(np.float32)


def whitened(features: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Each clip's features (F, D) float32 along the principal directions of all of them, (F, DIRECTIONS) float32."""
    frames_FD = np.concatenate(features)
    drawn = np.random.default_rng(seed).permutation(len(frames_FD))[:MAX_FRAMES]
    mean_D, matrix_DC = whitening(frames_FD[drawn], DIRECTIONS)
    return [(values_FD - mean_D) @ matrix_DC for values_FD in features]


def frame_clusters(features: list[np.ndarray], n_clusters: int, seed: int) -> list[np.ndarray]:
    """Cluster of every frame, (F,) int64 a clip, of whitened features (F, C)."""
    frames_FC = np.concatenate(features)
    drawn = np.random.default_rng(seed).permutation(len(frames_FC))[:MAX_FRAMES]
    parts = np.array_split(frames_FC[drawn], max(1, len(drawn) // 10_000))
    table = torch.from_numpy(fit_codebook(parts, n_clusters, seed=seed))
    return [assign(torch.from_numpy(values_FC), table).numpy() for values_FC in features]


def _described(features: list[np.ndarray]) -> np.ndarray:
    """Every clip by the mean features of its segments, one behind the other: (n_clips, SEGMENTS * C)."""
    return np.stack(
        [np.concatenate([part.mean(0) for part in np.array_split(f, SEGMENTS)]) for f in features]
    )


def words_of_speaker(features: list[np.ndarray], n_clusters: int) -> np.ndarray:
    """Cluster of every clip of one speaker, (n_clips,) int64, by Ward's linkage: too few clips for k-means."""
    return np.asarray(AgglomerativeClustering(n_clusters).fit_predict(_described(features)), dtype=np.int64)


def word_clusters(features: list[np.ndarray], n_clusters: int, seed: int) -> np.ndarray:
    """Cluster of every clip, (n_clips,) int64, by k-means along the principal directions of what describes them."""
    words_NC = _described(features)
    mean_C, matrix_CW = whitening(words_NC, WORD_DIRECTIONS)
    described_NW = (words_NC - mean_C) @ matrix_CW
    return np.asarray(
        KMeans(n_clusters, n_init=2, random_state=seed).fit_predict(described_NW), dtype=np.int64
    )
