"""Random changes of voice and channel that leave the message as it is.

The encoder hears a perturbed wave and must predict the clusters of the clean one: what differs between
speakers and microphones then carries no information about its targets (the idea of ContentVec, Qian et
al., ICML 2022, by simpler means). Everything works on whole batches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# B batch, S samples, F frequency bins.


def change_speed(wave_BS: Tensor, n_samples: int) -> Tensor:
    """Stretch or squeeze to ``n_samples`` by linear interpolation: rate, pitch and formants move together.

    Resampling by r scales the vocal tract's resonances by r, which is most of what differs between a
    tall and a small speaker.
    """
    return functional.interpolate(wave_BS[:, None], size=n_samples, mode="linear", align_corners=False)[:, 0]


def random_filter(wave_BS: Tensor, generator: torch.Generator, depth_db: float = 8.0) -> Tensor:
    """Smooth random equaliser per row: a microphone, a room, a larynx. Gains within about ±depth_db."""
    n_rows, n_samples = wave_BS.shape
    spectrum_BF = torch.fft.rfft(wave_BS)
    knots = torch.randn(n_rows, 1, 10, generator=generator) * depth_db / 2
    gain_BF = functional.interpolate(knots, size=spectrum_BF.shape[1], mode="linear", align_corners=True)[
        :, 0
    ]
    return torch.fft.irfft(spectrum_BF * 10 ** (gain_BF / 20), n=n_samples)


def add_noise(
    wave_BS: Tensor, generator: torch.Generator, low_db: float = 10.0, high_db: float = 45.0
) -> Tensor:
    """Coloured noise at a signal-to-noise ratio drawn per row from [low_db, high_db]."""
    n_rows, n_samples = wave_BS.shape
    noise_BF = torch.fft.rfft(torch.randn(n_rows, n_samples, generator=generator))
    slope = torch.rand(n_rows, 1, generator=generator)  # 0 is white, 1 is pink
    frequency_F = torch.arange(1, noise_BF.shape[1] + 1, dtype=torch.float32)
    noise_BS = torch.fft.irfft(noise_BF * frequency_F ** (-slope / 2), n=n_samples)
    snr_db = low_db + (high_db - low_db) * torch.rand(n_rows, 1, generator=generator)
    wanted = wave_BS.pow(2).mean(1, keepdim=True) / 10 ** (snr_db / 10)
    return wave_BS + noise_BS * torch.sqrt(wanted / noise_BS.pow(2).mean(1, keepdim=True).clamp_min(1e-12))


def low_pass(wave_BS: Tensor, generator: torch.Generator, sample_rate: int = 16_000) -> Tensor:
    """Nothing above a cut-off per row: a quarter between 3.3 and 4.1 kHz (telephone), a quarter up to 8 kHz.

    Speech recorded at 8 kHz has no upper half band, and its units should be those of speech that has one.
    """
    n_rows, n_samples = wave_BS.shape
    spectrum_BF = torch.fft.rfft(wave_BS)
    kind = torch.rand(n_rows, 1, generator=generator)
    draw = torch.rand(n_rows, 1, generator=generator)
    cut = torch.where(kind < 0.25, 3300 + 800 * draw, torch.where(kind < 0.5, 4000 + 4000 * draw, 1e6))
    frequency_F = torch.linspace(0, sample_rate / 2, spectrum_BF.shape[1])
    gain_BF = ((cut - frequency_F) / 100).clamp(0, 1)  # a slope of 100 Hz
    return torch.fft.irfft(spectrum_BF * gain_BF, n=n_samples)


def draw_speed(generator: torch.Generator, spread: float = 0.2) -> float:
    """Speed factor, log-uniform in [1/(1+spread), 1+spread]."""
    span = math.log1p(spread)
    return math.exp((2 * torch.rand((), generator=generator).item() - 1) * span)


def perturb(wave_BS: Tensor, generator: torch.Generator) -> Tensor:
    """Filter, noise and band, for most rows; length and timing stay."""
    filtered_BS = random_filter(wave_BS, generator)
    noisy_BS = low_pass(add_noise(filtered_BS, generator), generator)
    keep = torch.rand(len(wave_BS), 1, generator=generator) < 0.3  # some rows stay clean
    return torch.where(keep, wave_BS, noisy_BS)
