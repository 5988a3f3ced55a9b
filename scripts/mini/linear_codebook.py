"""A linear classifier of units told as a codebook of ordinary centroids.

Nearest centroid is a linear classifier: |x - c_k|² orders like c_k·x - |c_k|²/2. The other way round, a vector u that
is added to every w_k of argmax_k w_k·x + b_k changes no order, and it is free to make the biases agree: centroids
c_k = w_k + u with w_k·u = -b_k - |w_k|²/2 + any constant. With no more units than dimensions such a u exists.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar


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
