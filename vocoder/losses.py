"""Training losses of the vocoder.

Source: Kong, Kim, Bae 2020 (HiFi-GAN), section 2.4 (mel, feature matching, least-squares adversarial); Yamamoto,
Song, Kim 2020 (Parallel WaveGAN), section 2.2 (multi-resolution STFT); mel scale of Slaney's Auditory Toolbox.

Shape legend: B batch, S samples, N frequency bins, M mel bands, F frames, T units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LINEAR_HZ_PER_MEL = 200.0 / 3
_LOG_FROM_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27


def _hz_from_mel(mel: Tensor) -> Tensor:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    log_from = _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL
    high_hz = _LOG_FROM_HZ * torch.exp(_LOG_STEP * (mel - log_from).clamp(min=0))
    return torch.where(mel < log_from, mel * _LINEAR_HZ_PER_MEL, high_hz)


def _mel_from_hz(hz: float) -> float:
    if hz < _LOG_FROM_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL + math.log(hz / _LOG_FROM_HZ) / _LOG_STEP


def mel_filterbank(n_mels: int, n_fft: int, sample_rate: int, fmin_hz: float, fmax_hz: float) -> Tensor:
    """Triangular filters, each of unit area in Hz, evenly spaced on Slaney's mel scale.

    Returns:
        (n_mels, n_fft // 2 + 1) float32.
    """
    edges_hz = _hz_from_mel(
        torch.linspace(_mel_from_hz(fmin_hz), _mel_from_hz(fmax_hz), n_mels + 2, dtype=torch.float64)
    )
    bins_hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    filters = torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)
    return filters.float()


def magnitude_spectrogram(wave_BS: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Short-time magnitudes, padded by reflection so that S / hop frames come out.

    Args:
        wave_BS: (B, S) float32.
        window: (n_fft,) float32.
        hop_length: samples between frames.

    Returns:
        (B, n_fft // 2 + 1, S // hop_length) float32.
    """
    n_fft = window.shape[0]
    pad = (n_fft - hop_length) // 2
    padded_BS = F.pad(wave_BS.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    spectrum = torch.stft(padded_BS, n_fft, hop_length, window=window, center=False, return_complex=True)
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)


class MelSpectrogram(nn.Module):
    """Log-mel spectrogram as HiFi-GAN computes it for its loss.

    Args:
        sample_rate: Hz.
        n_fft: window and transform length in samples.
        hop_length: samples between frames.
        n_mels: bands.
        fmin_hz: lowest band's lower edge.
        fmax_hz: highest band's upper edge; None: half the sample rate.
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 1024,
        hop_length: int = 256,
        n_mels: int = 80,
        fmin_hz: float = 0.0,
        fmax_hz: float | None = None,
    ) -> None:
        super().__init__()
        self.hop_length = hop_length
        filters = mel_filterbank(n_mels, n_fft, sample_rate, fmin_hz, fmax_hz or sample_rate / 2)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wave_BS: Tensor) -> Tensor:
        """(B, S) float32 -> (B, n_mels, S // hop_length) natural log of mel magnitudes, floored at 1e-5."""
        magnitude_BNF = magnitude_spectrogram(wave_BS, self.window, self.hop_length)
        return torch.log((self.filters @ magnitude_BNF).clamp(min=1e-5))


class MelLoss(nn.Module):
    """Mean absolute difference of log-mel spectrograms, averaged over one or more resolutions.

    Args:
        sample_rate: Hz.
        resolutions: (n_fft, hop_length, n_mels) each. The default is HiFi-GAN's single one.
    """

    def __init__(
        self, sample_rate: int = 16_000, resolutions: Sequence[tuple[int, int, int]] = ((1024, 256, 80),)
    ) -> None:
        super().__init__()
        self.spectrograms = nn.ModuleList(
            MelSpectrogram(sample_rate, *resolution) for resolution in resolutions
        )

    def forward(self, wave_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Loss of generated against real samples, both (B, S) float32; a scalar."""
        losses = [
            F.l1_loss(spectrogram(wave_BS), spectrogram(target_BS)) for spectrogram in self.spectrograms
        ]
        return torch.stack(losses).mean()


class StftLoss(nn.Module):
    """Spectral convergence plus log magnitude distance, averaged over resolutions.

    Args:
        resolutions: (n_fft, hop_length) each.
    """

    def __init__(
        self, resolutions: Sequence[tuple[int, int]] = ((512, 128), (1024, 256), (2048, 512))
    ) -> None:
        super().__init__()
        self.hop_lengths = [hop_length for _, hop_length in resolutions]
        for i, (n_fft, _) in enumerate(resolutions):
            self.register_buffer(f"window{i}", torch.hann_window(n_fft), persistent=False)

    def forward(self, wave_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Loss of generated against real samples, both (B, S) float32; a scalar."""
        total = wave_BS.new_zeros(())
        for window, hop_length in zip(self.buffers(), self.hop_lengths, strict=True):
            magnitude = magnitude_spectrogram(wave_BS, window, hop_length)
            target = magnitude_spectrogram(target_BS, window, hop_length)
            convergence = torch.linalg.vector_norm(target - magnitude) / torch.linalg.vector_norm(target)
            # floored at about -90 dB of full scale: what nobody hears would else dominate the logarithm
            log_distance = F.l1_loss(magnitude.clamp(min=1e-2).log(), target.clamp(min=1e-2).log())
            total = total + convergence + log_distance
        return total / len(self.hop_lengths)


def discriminator_loss(real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the discriminators: real towards 1, generated towards 0; summed over discriminators."""
    losses = [
        (real - 1).square().mean() + fake.square().mean()
        for real, fake in zip(real_scores, fake_scores, strict=True)
    ]
    return torch.stack(losses).sum()


def adversarial_loss(fake_scores: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the generator: generated towards 1; summed over discriminators."""
    return torch.stack([(fake - 1).square().mean() for fake in fake_scores]).sum()


def feature_matching_loss(
    real_features: Sequence[Sequence[Tensor]], fake_features: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Mean absolute difference of every discriminator layer's output, summed over layers and discriminators."""
    losses = [
        F.l1_loss(fake, real.detach())
        for reals, fakes in zip(real_features, fake_features, strict=True)
        for real, fake in zip(reals, fakes, strict=True)
    ]
    return torch.stack(losses).sum()


def duration_loss(log_duration_BT: Tensor, duration_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared error of log(frames + 1) over real units.

    Args:
        log_duration_BT: (B, T) float32 predictions of log(frames + 1).
        duration_BT: (B, T) int64 frames.
        mask_BT: (B, T) bool, True at real units.

    Returns:
        A scalar.
    """
    target_BT = torch.log(duration_BT.to(log_duration_BT.dtype) + 1)
    return (log_duration_BT - target_BT)[mask_BT].square().mean()
