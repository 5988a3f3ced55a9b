"""Mel-cepstral distance: how far two recordings' spectral envelopes lie apart, loudness left out.

Shapes: N samples, F frames, K mel bands, C coefficients.

Source: Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment", on cepstra of a mel
filterbank's log powers. Of coefficients of a cosine transform with orthonormal basis over K bands, 10 / ln 10 *
sqrt(sum d**2 / K) is the same quantity: the root mean square difference in dB of the envelopes that the coefficients
draw.
"""

from __future__ import annotations

import math

import numpy as np

from units.compiled_librosa import compiled_librosa
from units.errors import InputError

N_BANDS, N_COEFFICIENTS = 40, 13
WINDOW_S, HOP_S = 0.025, 0.005
_FLOOR = (
    1e-6  # power of a band below which nothing is heard: silence against speech is then not infinitely far
)


def mel_cepstrum(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Coefficients 1 to 13 of every frame of a wave (N,): (C, F) float64. Raises InputError for an empty wave."""
    if not len(wave):
        raise InputError("mel cepstrum: expected samples, got none; leave the recording out")
    window = round(WINDOW_S * sample_rate)
    power_KF = compiled_librosa().feature.melspectrogram(
        y=np.asarray(wave, dtype=np.float64),
        sr=sample_rate,
        n_fft=2 ** math.ceil(math.log2(window)),
        win_length=window,
        hop_length=round(HOP_S * sample_rate),
        n_mels=N_BANDS,
        pad_mode="constant",
    )
    log_KF = np.log(np.maximum(power_KF, _FLOOR))
    coefficients_CF: np.ndarray = compiled_librosa().feature.mfcc(S=log_KF, n_mfcc=N_COEFFICIENTS + 1)[1:]
    return coefficients_CF


def mel_cepstral_distance(reference: np.ndarray, other: np.ndarray, sample_rate: int) -> float:
    """Mean over frames in dB of two waves (N,) on one time axis; the longer one is cut. Raises as `mel_cepstrum`."""
    first_CF, second_CF = (mel_cepstrum(wave, sample_rate) for wave in (reference, other))
    n_frames = min(first_CF.shape[1], second_CF.shape[1])
    return float(frame_distances(first_CF[:, :n_frames], second_CF[:, :n_frames]).mean())


def frame_distances(first_CF: np.ndarray, second_CF: np.ndarray) -> np.ndarray:
    """Distance in dB of every frame of two cepstra (C, F): (F,) float64."""
    distance_F: np.ndarray = 10 / math.log(10) * np.sqrt(np.square(first_CF - second_CF).sum(0) / N_BANDS)
    return distance_F
