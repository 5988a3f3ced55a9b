"""A codebook fitted where every direction of the features counts alike, told in the features' own space.

K-means spends its centroids on the directions of most variance. In a small encoder, loudness and channel vary
most, and what tells words apart varies little. Whitening first makes all directions count alike.

Nearest centroid in the whitened space is a linear classifier, argmax_k w_k·x + b_k, and so is nearest centroid
in the space of the features: |x - c_k|² orders like c_k·x - |c_k|²/2. A vector u that is added to every w_k
changes no order, and it is free to make the biases agree: centroids c_k = w_k + u with w_k·u = -b_k - |w_k|²/2 +
any constant. With no more centroids than dimensions such a u exists; the codebook is then an ordinary one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from units.kmeans import fit_codebook

FLOOR = 1e-3  # of the mean eigenvalue; directions that vary less than this are not blown up further


def fit_whitened_codebook(frames_FD: np.ndarray, n_units: int, seed: int) -> np.ndarray:
    """Centroids (n_units, D) float32 in the features' space, of k-means on whitened frames (F, D) float32."""
    mean_D = frames_FD.mean(0, dtype=np.float64)
    values_D, vectors_DD = np.linalg.eigh(np.cov(frames_FD.T, dtype=np.float64))
    scale_D = 1 / np.sqrt(np.maximum(values_D, FLOOR * values_D.mean()))
    whitening_DD = vectors_DD * scale_D
    whitened_FD = ((frames_FD - mean_D) @ whitening_DD).astype(np.float32)
    parts = np.array_split(whitened_FD, max(1, len(whitened_FD) // 10_000))
    found_KD = fit_codebook(parts, n_units, seed=seed).astype(np.float64)
    weight_KD = found_KD @ whitening_DD.T
    bias_K = -weight_KD @ mean_D - (found_KD**2).sum(1) / 2
    return as_centroids(weight_KD, bias_K)


def as_centroids(weight_KD: np.ndarray, bias_K: np.ndarray) -> np.ndarray:
    """Centroids (K, D) float32 whose nearest is argmax_k weight_k·x + bias_k, for every x.

    Weights and biases may be scaled together: of all scales the one is taken that makes the centroids shortest for
    how far they lie apart, because the rest costs precision. Exact for up to as many centroids as dimensions whose
    differences are linearly independent.
    """
    solve = np.linalg.pinv(np.column_stack([weight_KD, np.ones(len(weight_KD))]))

    def centroids(scale: float) -> np.ndarray:
        shift_D = (solve @ (-bias_K - scale * (weight_KD**2).sum(1) / 2))[:-1]
        return scale * weight_KD + shift_D

    def length_to_spread(log_scale: float) -> float:
        scale = float(np.exp(log_scale))
        return float(np.square(centroids(scale)).mean()) / scale

    best = minimize_scalar(length_to_spread, bounds=(-15, 15), method="bounded")
    return centroids(float(np.exp(best.x))).astype(np.float32)
