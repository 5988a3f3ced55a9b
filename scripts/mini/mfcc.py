"""Mel-frequency cepstra, the targets of HuBERT's first iteration (Hsu et al., 2021, section 3.1)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from transformers.audio_utils import mel_filter_bank

HOP = 320
WINDOW = 400
N_FFT = 512
N_MELS = 40
N_CEPSTRA = 13

_MEL = torch.from_numpy(
    mel_filter_bank(N_FFT // 2 + 1, N_MELS, 20.0, 7600.0, 16_000, norm="slaney", mel_scale="htk").astype(
        np.float32
    )
)


def _slope(values: np.ndarray) -> np.ndarray:
    """Regression slope over five frames, the usual delta."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    n = len(values)
    return (2 * (padded[4 : n + 4] - padded[:n]) + padded[3 : n + 3] - padded[1 : n + 1]) / 10.0


def mfcc(wave: np.ndarray) -> np.ndarray:
    """(n_samples,) at 16 kHz -> (ceil(n_samples / 320), 39): cepstra, slopes, slopes of slopes.

    The mean over the utterance is taken off: it holds the speaker and the microphone more than the words.
    """
    n_frames = -(-len(wave) // HOP)
    padded = np.pad(wave, (WINDOW // 2 - HOP // 2, WINDOW + HOP))
    spectrum = torch.stft(
        torch.from_numpy(padded),
        N_FFT,
        HOP,
        WINDOW,
        torch.hann_window(WINDOW),
        center=False,
        return_complex=True,
    )
    log_mel = torch.log(spectrum.abs().pow(2).T @ _MEL + 1e-6)[:n_frames].numpy()
    cepstra = dct(log_mel, norm="ortho", axis=1)[:, :N_CEPSTRA]
    cepstra -= cepstra.mean(0, keepdims=True)
    slopes = _slope(cepstra)
    return np.concatenate([cepstra, 2 * slopes, 3 * _slope(slopes)], axis=1).astype(np.float32)
