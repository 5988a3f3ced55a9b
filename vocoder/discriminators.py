"""Discriminators that judge waveforms by period and by scale.

Source: Kong, Kim, Bae 2020 (HiFi-GAN), section 2.3 and appendix; Kumar et al. 2019 (MelGAN) for the scales. A width
multiplier shrinks them, so that a small vocoder can be trained on a few CPU cores.

Shape legend: B batch, S samples, C channels, P period.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from vocoder.convolution import Conv1d

SLOPE = 0.1
_PERIOD_CHANNELS = (32, 128, 512, 1024, 1024)
_SCALE_LAYERS = (  # channels, kernel, stride, groups
    (128, 15, 1, 1),
    (128, 41, 2, 4),
    (256, 41, 2, 16),
    (512, 41, 4, 16),
    (1024, 41, 4, 16),
    (1024, 41, 1, 16),
    (1024, 5, 1, 1),
)

Judgement = tuple[list[Tensor], list[list[Tensor]]]
"""Scores of each discriminator, (B, n) each, and the outputs of each one's layers."""


class PeriodDiscriminator(nn.Module):
    """Sees every `period`-th sample: the wave folded into (S / period, period), 2-D convolutions along time.

    Args:
        period: samples per row.
        width: multiplies the channels of the published discriminator.
    """

    def __init__(self, period: int, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1] + [max(1, round(c * width)) for c in _PERIOD_CHANNELS]
        strides = (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(c_in, c_out, (5, 1), (stride, 1), (2, 0)))
            for c_in, c_out, stride in zip(channels[:-1], channels[1:], strides, strict=True)
        )
        self.conv_post = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, wave_BS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, S) float32 -> scores (B, n) and every layer's output."""
        remainder = wave_BS.shape[1] % self.period
        if remainder:
            wave_BS = F.pad(wave_BS.unsqueeze(1), (0, self.period - remainder), mode="reflect").squeeze(1)
        x = wave_BS.reshape(wave_BS.shape[0], 1, -1, self.period).to(memory_format=torch.channels_last)
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        x = self.conv_post(x)
        features.append(x)
        return x.flatten(1), features


class ScaleDiscriminator(nn.Module):
    """Sees the wave at one rate through grouped 1-D convolutions of growing stride.

    Args:
        width: multiplies channels and groups of the published discriminator.
        spectral: spectral instead of weight norm (published for the scale at full rate).
    """

    def __init__(self, width: float = 1.0, spectral: bool = False) -> None:
        super().__init__()
        norm = spectral_norm if spectral else weight_norm
        self.convs = nn.ModuleList()
        c_in = 1
        for channels, kernel_size, stride, full_groups in _SCALE_LAYERS:
            groups = max(1, round(full_groups * width))
            c_out = max(1, round(channels * width / groups)) * groups
            groups = groups if c_in % groups == 0 else 1
            self.convs.append(norm(Conv1d(c_in, c_out, kernel_size, stride, kernel_size // 2, groups=groups)))
            c_in = c_out
        self.conv_post = norm(Conv1d(c_in, 1, 3, 1, 1))

    def forward(self, wave_BS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, S) float32 -> scores (B, n) and every layer's output."""
        x_BCS = wave_BS.unsqueeze(1)
        features = []
        for conv in self.convs:
            x_BCS = F.leaky_relu(conv(x_BCS), SLOPE)
            features.append(x_BCS)
        x_BCS = self.conv_post(x_BCS)
        features.append(x_BCS)
        return x_BCS.flatten(1), features


class MultiPeriodDiscriminator(nn.Module):
    """One `PeriodDiscriminator` per period.

    Args:
        periods: samples; primes, so that they overlap little.
        width: multiplies the published channels.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), width: float = 1.0) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, width) for period in periods)

    def forward(self, wave_BS: Tensor) -> Judgement:
        """Judge (B, S) float32 samples."""
        judged = [discriminator(wave_BS) for discriminator in self.discriminators]
        return [score for score, _ in judged], [features for _, features in judged]


class MultiScaleDiscriminator(nn.Module):
    """One `ScaleDiscriminator` per rate: the wave itself, then averaged to half the rate, a quarter, and so on.

    Args:
        n_scales: rates to judge at.
        width: multiplies the published channels and groups.
    """

    def __init__(self, n_scales: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(width, spectral=i == 0) for i in range(n_scales)
        )

    def forward(self, wave_BS: Tensor) -> Judgement:
        """Judge (B, S) float32 samples."""
        scores, features = [], []
        for i, discriminator in enumerate(self.discriminators):
            if i:
                wave_BS = F.avg_pool1d(wave_BS.unsqueeze(1), 4, 2, padding=2).squeeze(1)
            score, layers = discriminator(wave_BS)
            scores.append(score)
            features.append(layers)
        return scores, features


class WaveDiscriminator(nn.Module):
    """All discriminators of a training run behind one call.

    Args:
        periods: of the multi-period part; empty for none.
        n_scales: of the multi-scale part; 0 for none.
        width: multiplies the published channels of both.
    """

    def __init__(
        self, periods: Sequence[int] = (2, 3, 5, 7, 11), n_scales: int = 3, width: float = 1.0
    ) -> None:
        super().__init__()
        self.mpd = MultiPeriodDiscriminator(periods, width)
        self.msd = MultiScaleDiscriminator(n_scales, width)

    def forward(self, wave_BS: Tensor) -> Judgement:
        """Judge (B, S) float32 samples by all parts."""
        period_scores, period_features = self.mpd(wave_BS)
        scale_scores, scale_features = self.msd(wave_BS)
        return period_scores + scale_scores, period_features + scale_features

    def judge_pair(self, real_BS: Tensor, fake_BS: Tensor) -> tuple[Judgement, Judgement]:
        """Judge real and generated samples in one pass, which is faster than two."""
        scores, features = self(torch.cat([real_BS, fake_BS]))
        n_real = real_BS.shape[0]
        real = [s[:n_real] for s in scores], [[f[:n_real] for f in layers] for layers in features]
        fake = [s[n_real:] for s in scores], [[f[n_real:] for f in layers] for layers in features]
        return real, fake
