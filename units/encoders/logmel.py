"""Log-mel spectrogram frames as features: an encoder without weights, the lower bound for every learned one.

Frames lie as HuBERT's do: 25 ms windows every 20 ms, none reaching beyond the wave, so that lengths agree
frame by frame and padding cannot leak in.

Shapes: B waves, F frames, W window samples, R spectrum bins, M mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from units.errors import AudioError, InputError


class LogMelEncoder:
    """Natural logarithm of mel band power, floored at `floor`; an `units.types.Encoder` with `layer` 0."""

    def __init__(
        self,
        n_mels: int = 80,
        *,
        sample_rate: int = 16_000,
        window_s: float = 0.025,
        hop_s: float = 0.020,
        floor: float = 1e-8,
        device: str | torch.device = "cpu",
    ) -> None:
        """Set up window and filters. Raises InputError where a mel band would hold no spectrum bin."""
        self.name = f"logmel-{n_mels}"
        self.layer = 0
        self.sample_rate = sample_rate
        self.hop_length = round(hop_s * sample_rate)
        self.n_features = n_mels
        self.device = torch.device(device)
        self._floor = floor
        self._window_length = round(window_s * sample_rate)
        self._n_fft = 1 << (self._window_length - 1).bit_length()
        self._window_W = torch.hann_window(self._window_length, periodic=True, device=self.device)
        self._filters_RM = mel_filterbank(self._n_fft, n_mels, sample_rate).to(self.device)

    def n_frames(self, n_samples: int) -> int:
        """Frames given for a wave of `n_samples` samples; 0 where it is shorter than one window."""
        return max((n_samples - self._window_length) // self.hop_length + 1, 0)

    @torch.inference_mode()
    def encode(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Encode B waves, each (n_samples,) float32 at `sample_rate` Hz.

        Returns features (B, F, n_mels) float32, zero beyond each row's frames, and frame counts (B,) int64.
        Raises AudioError where a wave is shorter than one window.
        """
        counts = [self.n_frames(len(wave)) for wave in waves]
        if not counts or min(counts) == 0:
            shortest_s = min((len(wave) for wave in waves), default=0) / self.sample_rate
            raise AudioError(
                f"wave: expected waves of at least {self._window_length / self.sample_rate * 1000:.0f} ms, got "
                f"{len(waves)} waves, the shortest of {shortest_s * 1000:.1f} ms; use longer audio"
            )
        features_BFM = pad_sequence([self._encode_one(wave) for wave in waves], batch_first=True)
        return features_BFM, torch.tensor(counts, dtype=torch.int64)

    def _encode_one(self, wave: np.ndarray) -> Tensor:
        wave_N = torch.as_tensor(wave, dtype=torch.float32, device=self.device)
        frames_FW = wave_N.unfold(0, self._window_length, self.hop_length) * self._window_W
        power_FR = torch.fft.rfft(frames_FW, n=self._n_fft).abs().square()
        return (power_FR @ self._filters_RM).clamp(min=self._floor).log()


def mel_filterbank(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters of peak 1, evenly spaced on the mel scale of the HTK book, from 0 Hz to half the rate.

    mel(f) = 2595 log10(1 + f / 700) (Young et al., The HTK Book, section 5.4).
    Returns (n_fft // 2 + 1, n_mels) float32. Raises InputError where a filter would be empty.
    """
    highest_mel = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    edges_hz = 700.0 * (10.0 ** (np.linspace(0.0, highest_mel, n_mels + 2) / 2595.0) - 1.0)
    bins_hz = np.arange(n_fft // 2 + 1)[:, None] * (sample_rate / n_fft)
    left_hz, centre_hz, right_hz = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising_RM = (bins_hz - left_hz) / (centre_hz - left_hz)
    falling_RM = (right_hz - bins_hz) / (right_hz - centre_hz)
    filters_RM = np.minimum(rising_RM, falling_RM).clip(min=0.0)
    if not filters_RM.any(axis=0).all():
        raise InputError(
            f"n_mels: expected bands that each hold a bin of a {n_fft}-point spectrum, got {n_mels} bands; use fewer"
        )
    return torch.from_numpy(filters_RM.astype(np.float32))
