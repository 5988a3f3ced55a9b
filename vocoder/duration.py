"""The duration predictor: how many frames each deduplicated unit lasts.

Source: Ren et al. 2021 (FastSpeech 2), section 2.3, as used for units by Lee et al. 2022 (direct speech-to-speech
translation with discrete units), section 3.2. Parameter names are those of the published generators.

Shape legend: B batch, T deduplicated units, E embedding width, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.config import DurationPredictorConfig


class DurationPredictor(nn.Module):
    """Two convolutions with layer norm over unit embeddings, then one number per unit: log(frames + 1).

    Args:
        config: its sizes.
    """

    def __init__(self, config: DurationPredictorConfig) -> None:
        super().__init__()
        embed, hidden, kernel_size = (
            config.encoder_embed_dim,
            config.var_pred_hidden_dim,
            config.var_pred_kernel_size,
        )
        padding = (kernel_size - 1) // 2
        self.conv1 = nn.Sequential(nn.Conv1d(embed, hidden, kernel_size, padding=padding), nn.ReLU())
        self.ln1 = nn.LayerNorm(hidden)
        self.conv2 = nn.Sequential(nn.Conv1d(hidden, hidden, kernel_size, padding=padding), nn.ReLU())
        self.ln2 = nn.LayerNorm(hidden)
        self.proj = nn.Linear(hidden, 1)
        self.dropout = config.var_pred_dropout

    def forward(self, x_BTE: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Predict log(frames + 1).

        Args:
            x_BTE: (B, T, E) unit embeddings.
            mask_BT: (B, T) bool, True at real units. Padding reads as the zeros beyond a sequence's end, so that a
                sequence's prediction does not depend on its batch.

        Returns:
            (B, T) float32, meaningless at padding.
        """
        keep_BT1 = None if mask_BT is None else mask_BT.unsqueeze(-1)
        for conv, norm in ((self.conv1, self.ln1), (self.conv2, self.ln2)):
            if keep_BT1 is not None:
                x_BTE = x_BTE * keep_BT1
            x_BTE = norm(conv(x_BTE.transpose(1, 2)).transpose(1, 2))
            x_BTE = F.dropout(x_BTE, self.dropout, self.training)
        log_duration_BT: Tensor = self.proj(x_BTE).squeeze(-1).float()
        return log_duration_BT


def frames_from_log_duration(log_duration_BT: Tensor) -> Tensor:
    """Turn log(frames + 1) into whole frames, int64, at least 1; half frames round to even, as in the reference."""
    return torch.round(torch.exp(log_duration_BT) - 1).long().clamp(min=1)
