"""The vocoder's voice that sounds most like a recording: what is put into a gap should not change who speaks.

Shapes: N samples, F frames, M samples of a voice, V voices, K mel bands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import soxr
import torch
from torch import Tensor

from speechprompt.stack import Stack
from units.encoders.logmel import LogMelEncoder
from units.types import UnitSequence, Wave

_HEARD_S = 2.0  # of the recording, its loudest: all voices of `mini` say that in half a second
_N_BANDS, _FLOOR = 40, 1e-4  # of waves as loud as 1: what is quieter by 60 dB tells nothing of a voice


def nearest_voice(stack: Stack, wave_N: Wave, units: UnitSequence) -> str | None:
    """Name of the voice that says what was heard of a recording with spectra most like the recording's.

    Frames are compared at equal times, by the root mean square of the differences of log mel bands, loudness left out.
    wave_N: (N,) float32 at the quantizer's rate. units: of every frame of it, with f0_hz where the vocoder reads F0.
    Returns: None for a vocoder of one voice, or a recording too short to compare.
    """
    voices, rate = list(stack.vocoder.speakers), stack.quantizer.sample_rate
    if len(voices) < 2:
        return None
    mel = LogMelEncoder(_N_BANDS, sample_rate=rate, floor=_FLOOR)
    per_frame = rate / stack.spec.frame_rate
    first, last = loudest(wave_N, len(units), round(_HEARD_S * stack.spec.frame_rate))
    heard_N = wave_N[round(first * per_frame) : round(last * per_frame)]
    if mel.n_frames(len(heard_N)) == 0 or not heard_N.any():
        return None
    f0_F = None if units.f0_hz is None else units.f0_hz[first:last]
    part = replace(units, units=units.units[first:last], f0_hz=f0_F).deduplicate()
    heard_FK = _spectra(mel, heard_N)
    distances = []
    for voice in voices:
        spoken_M = stack.voice.speak(part, voice)
        said_FK = _spectra(mel, soxr.resample(spoken_M, stack.vocoder.sample_rate, rate))
        n_frames = min(len(heard_FK), len(said_FK))
        distances.append((heard_FK[:n_frames] - said_FK[:n_frames]).square().mean(1).sqrt().mean())
    return voices[int(torch.stack(distances).argmin())]


def _spectra(mel: LogMelEncoder, wave_N: Wave) -> Tensor:
    """Log mel bands (F, K) of a wave as loud as 1, the mean of each frame taken off."""
    loudness = max(float(np.sqrt(np.square(wave_N, dtype=np.float64).mean())), 1e-9)
    feature_1FK, _ = mel.encode([wave_N / np.float32(loudness)])
    return feature_1FK[0] - feature_1FK[0].mean(1, keepdim=True)


def loudest(wave_N: Wave, n_frames: int, most: int) -> tuple[int, int]:
    """First frame of the passage of at most `most` frames with the most energy, and the one after its last."""
    length = min(most, n_frames)
    edges_F = np.linspace(0, len(wave_N), n_frames + 1).round().astype(np.int64)
    energy_N = np.concatenate([[0.0], np.cumsum(np.square(wave_N, dtype=np.float64))])
    sums = energy_N[edges_F[length:]] - energy_N[edges_F[: n_frames + 1 - length]]
    start = int(np.argmax(sums))
    return start, start + length
