"""The layers that units are read from, and the units: trained together so that 100 hard units keep what matters.

The encoder's features tell words far better than any k-means of them does (docs/mini.md). Here the last layers learn
on through the units themselves: of the hard units of a perturbed copy, a small network must tell the fine cluster of
every clean frame, and another, of all of them, which clips of one word sound alike. Units are
argmax_k w_k·x + b_k; gradients pass the argmax straight through, by the softmax of noisy scores (Jang et al., 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.mini.linear_codebook import as_centroids
from scripts.mini.unit_targets import whitening
from units.kmeans import fit_codebook

# B batch, T frames, D features, K units, C frame clusters, W word clusters, N frames of a batch.


@dataclass(frozen=True)
class UnitBatch:
    """Crops of clips and what their units are to tell.

    state_BTD: float32 input of the first trained layer; mask_BT: bool, where there is a frame; frame_BT: int64
    clusters, -1 where there is none; frame_weight_B: float32; word_B: int64 clusters of whole clips, -1 where there
    is none.
    """

    state_BTD: Tensor
    mask_BT: Tensor
    frame_BT: Tensor
    frame_weight_B: Tensor
    word_B: Tensor


class LinearUnits(nn.Module):
    """K units as a linear map of whitened features, begun from k-means."""

    mean_D: Tensor
    whitening_DD: Tensor
    scale: Tensor

    def __init__(self, n_units: int, width: int) -> None:
        super().__init__()
        self.weight_KD = nn.Parameter(torch.zeros(n_units, width))
        self.bias_K = nn.Parameter(torch.zeros(n_units))
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("whitening_DD", torch.eye(width))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def begin(
        self, features_ND: np.ndarray, seed: int, codebook_KD: np.ndarray | None = None, gap: float = 3.0
    ) -> None:
        """The units of a codebook (K, D), or k-means of whitened features, in what whitens the features.

        Scores are scaled until the best is ``gap`` ahead of the next on average.
        """
        mean_D, whitening_DD = whitening(features_ND, features_ND.shape[1])
        self.mean_D.copy_(torch.from_numpy(mean_D))
        self.whitening_DD.copy_(torch.from_numpy(whitening_DD))
        if codebook_KD is None:
            white_ND = (features_ND - mean_D) @ whitening_DD
            parts = np.array_split(white_ND, max(1, len(white_ND) // 10_000))
            weight_KD = fit_codebook(parts, len(self.weight_KD), seed=seed).astype(np.float64)
            bias_K = -np.square(weight_KD).sum(1) / 2
        else:
            wide_KD = codebook_KD.astype(np.float64)
            weight_KD = wide_KD @ np.linalg.inv(whitening_DD.astype(np.float64)).T
            bias_K = wide_KD @ mean_D - np.square(wide_KD).sum(1) / 2
        self.weight_KD.copy_(torch.from_numpy(weight_KD))
        self.bias_K.copy_(torch.from_numpy(bias_K))
        self.scale.fill_(1.0)
        best_N2 = self(torch.from_numpy(features_ND[:4096])).topk(2).values
        self.scale.copy_(gap / (best_N2[:, 0] - best_N2[:, 1]).mean())

    def forward(self, feature_BTD: Tensor) -> Tensor:
        """Scores (..., K) of features (..., D)."""
        white_BTD = (feature_BTD - self.mean_D) @ self.whitening_DD
        return (white_BTD @ self.weight_KD.T + self.bias_K) * self.scale

    @torch.no_grad()
    def centroids(self) -> np.ndarray:
        """Codebook (K, D) float32 whose nearest centroid is the unit of the best score."""
        weight_KD = (self.weight_KD.double() @ self.whitening_DD.double().T).numpy()
        return as_centroids(
            weight_KD, self.bias_K.double().numpy() - weight_KD @ self.mean_D.double().numpy()
        )


def hard_units(score_BTK: Tensor) -> Tensor:
    """One-hot draws from the softmax of scores, with the softmax's gradient."""
    noise_BTK = -torch.log(-torch.log(torch.rand_like(score_BTK).clamp(1e-9, 1 - 1e-7)))
    soft_BTK = (score_BTK + noise_BTK).softmax(-1)
    hard_BTK = functional.one_hot(soft_BTK.argmax(-1), score_BTK.shape[-1]).to(soft_BTK.dtype)
    return hard_BTK + soft_BTK - soft_BTK.detach()


class FrameTeller(nn.Module):
    """Scores (B, T, C) of frame clusters from the units of two frames before to two after."""

    def __init__(self, n_units: int, n_clusters: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(n_units, 192, bias=False)
        self.convolution = nn.Conv1d(192, 384, 5, padding=2)
        self.output = nn.Linear(384, n_clusters)

    def forward(self, unit_BTK: Tensor, mask_BT: Tensor) -> Tensor:
        """Of one-hot units (B, T, K) and where they are, (B, T) bool."""
        embedded_BTE = self.embedding(unit_BTK) * mask_BT[..., None]
        return self.output(functional.gelu(self.convolution(embedded_BTE.transpose(1, 2))).transpose(1, 2))


class WordTeller(nn.Module):
    """Scores (B, W) of word clusters from all units of a clip."""

    def __init__(self, n_units: int, n_clusters: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(n_units, 128, bias=False)
        self.first = nn.Conv1d(128, 256, 5, padding=2)
        self.second = nn.Conv1d(256, 256, 5, padding=2)
        self.output = nn.Linear(512, n_clusters)

    def forward(self, unit_BTK: Tensor, mask_BT: Tensor) -> Tensor:
        """Of one-hot units (B, T, K) and where they are, (B, T) bool."""
        mask_B1T = mask_BT[:, None].float()
        x_BET = self.embedding(unit_BTK).transpose(1, 2) * mask_B1T
        x_BET = functional.gelu(self.first(x_BET)) * mask_B1T
        x_BET = functional.gelu(self.second(x_BET)) * mask_B1T
        return self.output(torch.cat([x_BET.amax(2), x_BET.sum(2) / mask_B1T.sum(2)], 1))


class UnitLayer(nn.Module):
    """Transformer layers, units of the last one's output, and the two networks that units have to inform.

    layers: of a HuBERT with pre-norm, copied by the caller. frame_group_C, word_group_W: int64, which group of sources
    a cluster was found in; only clusters of its own group are a clip's alternatives. word_weight: of the loss on words.
    """

    frame_group_C: Tensor
    word_group_W: Tensor

    def __init__(
        self,
        layers: nn.ModuleList,
        n_units: int,
        width: int,
        frame_group_C: Tensor,
        word_group_W: Tensor,
        word_weight: float = 0.5,
    ):
        super().__init__()
        self.layers, self.word_weight = layers, word_weight
        self.units = LinearUnits(n_units, width)
        self.frames = FrameTeller(n_units, len(frame_group_C))
        self.words = WordTeller(n_units, len(word_group_W))
        self.register_buffer("frame_group_C", frame_group_C)
        self.register_buffer("word_group_W", word_group_W)

    def features(self, state_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Output (B, T, D) float32 of the last layer."""
        bias_B11T = torch.zeros(mask_BT.shape).masked_fill(~mask_BT, -1e9)[:, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            for layer in self.layers:
                output = layer(state_BTD, attention_mask=bias_B11T)
                state_BTD = output[0] if isinstance(output, tuple) else output
        return state_BTD.float()

    def forward(self, batch: UnitBatch) -> tuple[Tensor, dict[str, float]]:
        """Loss in nats (a frame, and a clip of one word), and the figures worth logging."""
        score_BTK = self.units(self.features(batch.state_BTD, batch.mask_BT))
        unit_BTK = hard_units(score_BTK)

        known_BT = batch.frame_BT >= 0
        frame_N = batch.frame_BT[known_BT]
        frame_NC = self.frames(unit_BTK, batch.mask_BT)[known_BT]
        frame_NC = frame_NC.masked_fill(
            self.frame_group_C != self.frame_group_C[frame_N][:, None], -torch.inf
        )
        weight_N = batch.frame_weight_B[:, None].expand_as(known_BT)[known_BT]
        losses_N = functional.cross_entropy(frame_NC, frame_N, reduction="none")
        frame_loss = (losses_N * weight_N).sum() / weight_N.sum()

        known_B = batch.word_B >= 0
        word_N = batch.word_B[known_B]
        word_NW = self.words(unit_BTK[known_B], batch.mask_BT[known_B])
        word_NW = word_NW.masked_fill(self.word_group_W != self.word_group_W[word_N][:, None], -torch.inf)
        word_loss = functional.cross_entropy(word_NW, word_N)

        usage_K = score_BTK[batch.mask_BT].softmax(-1).mean(0)
        entropy = -(usage_K * usage_K.clamp_min(1e-9).log()).sum()
        figures = {
            "frame_loss": frame_loss.item(),
            "frame_accuracy": (frame_NC.argmax(-1) == frame_N).float().mean().item(),
            "word_loss": word_loss.item(),
            "word_accuracy": (word_NW.argmax(-1) == word_N).float().mean().item(),
            "unit_perplexity": entropy.exp().item(),
        }
        return frame_loss + self.word_weight * word_loss - 0.1 * entropy, figures
