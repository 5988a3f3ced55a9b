"""A loss that keeps the message: a frozen encoder must hear, in the generated wave, the units it was made from.

Shape legend: B batch, S samples, F frames, T units, D feature width, K units of the codebook.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

SHARPNESS = 0.1


class CodebookUnitLoss:
    """Cross entropy of the units under softmin of the squared distances between features and centroids.

    Serves as `unit_loss` of `vocoder.train.train_vocoder`. It is 0 where every frame is far nearer to its own centroid
    than to any other, and its gradient pulls wrong frames only.

    Args:
        features: differentiable map from waves (B, S) float32 to features (B, F, D), frame i beginning with unit i;
            F may be smaller than the number of units (an encoder's last window must fit into the wave).
        centroids_KD: (K, D) float32, the codebook.
        temperature: of the softmin, in squared feature distance; None for `SHARPNESS` times the median squared distance
            of a centroid to its nearest neighbour.
    """

    def __init__(
        self, features: Callable[[Tensor], Tensor], centroids_KD: Tensor, temperature: float | None = None
    ) -> None:
        self.features = features
        self.centroids_KD = centroids_KD.float()
        if temperature is None:
            distance_KK = torch.cdist(self.centroids_KD, self.centroids_KD).square()
            distance_KK.fill_diagonal_(torch.inf)
            temperature = SHARPNESS * distance_KK.amin(dim=1).median().item()
        self.temperature = temperature

    def __call__(self, wave_BS: Tensor, units_BT: Tensor) -> Tensor:
        """Loss of generated waves (B, S) float32 against their frame-level units (B, T) int64; a scalar."""
        feature_BFD = self.features(wave_BS)
        centroids_KD = self.centroids_KD.to(feature_BFD.device)
        # |f - c|^2 without |f|^2, which is the same for every centroid
        distance_BFK = centroids_KD.square().sum(dim=1) - 2 * feature_BFD @ centroids_KD.T
        n_frames = min(feature_BFD.shape[1], units_BT.shape[1])
        logits_NK = -distance_BFK[:, :n_frames].flatten(0, 1) / self.temperature
        return F.cross_entropy(logits_NK, units_BT[:, :n_frames].flatten())
