"""Fundamental frequency of speech at the frames of its units, by librosa's pYIN.

Shapes: F frames, T units.

Source: Mauch and Dixon 2014, "pYIN: a fundamental frequency estimator using probabilistic threshold distributions".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from units.compiled_librosa import compiled_librosa
from units.errors import InputError
from units.types import UnitSequence, Wave

_PERIODS = 4  # of the lowest F0 in an analysis window: pYIN compares one half of it with the other
_PIECE_S = 30.0  # a longer wave is analysed in pieces of this length, which bounds memory
_CONTEXT_S = 1.0  # heard on both sides of a piece
_BINS_PER_OCTAVE = 120  # of pYIN's search, a tenth of a semitone each


@dataclass(frozen=True)
class PitchRange:
    """Where F0 is looked for: the voices of adults and most children.

    lowest_hz, highest_hz: the bounds. Raises InputError where they are not 0 < lowest < highest.
    """

    lowest_hz: float = 60.0
    highest_hz: float = 500.0

    def __post_init__(self) -> None:
        if not 0 < self.lowest_hz < self.highest_hz < math.inf:
            raise InputError(
                f"F0: expected a range with 0 < lowest < highest, got {self.lowest_hz} to {self.highest_hz} Hz"
            )


def measure_f0(
    wave: Wave, sample_rate: int, frame_rate: float, n_frames: int, pitch_range: PitchRange | None = None
) -> NDArray[np.float32]:
    """Measure F0 in the middle of each frame: (n_frames,) float32 Hz, 0 where unvoiced.

    Frame i spans samples i * hop to (i + 1) * hop, hop = sample_rate / frame_rate. The same wave gives the same values,
    whatever it is measured with.

    wave: (n_samples,) float32. sample_rate: Hz. frame_rate: of the units, Hz. n_frames: of the units.
    pitch_range: None for PitchRange().
    Raises InputError: a frame that is no whole number of samples, or a range beyond half the sample rate.
    """
    pitch_range = pitch_range or PitchRange()
    hop = round(sample_rate / frame_rate)
    if hop < 1 or abs(hop * frame_rate - sample_rate) > 1e-6 * sample_rate:
        raise InputError(
            f"F0: expected frames of whole samples, got {sample_rate} Hz and {frame_rate} frames a second; "
            "use the sample rate of the encoder"
        )
    if pitch_range.highest_hz > sample_rate / 2:
        raise InputError(
            f"F0: expected a range below {sample_rate / 2:g} Hz, got {pitch_range.highest_hz:g} Hz; lower it"
        )
    f0_F = np.zeros(n_frames, dtype=np.float32)
    size, context = max(1, round(_PIECE_S * frame_rate)), round(_CONTEXT_S * frame_rate)
    for start in range(0, n_frames, size):
        stop = min(start + size, n_frames)
        first, last = max(0, start - context), stop + context
        heard_F = _pyin(wave[first * hop : last * hop], sample_rate, hop, pitch_range)[start - first :]
        n_heard = min(stop - start, len(heard_F))  # an encoder may count a frame that ends behind the wave
        f0_F[start : start + n_heard] = heard_F[:n_heard]
    return f0_F


def with_f0(
    sequence: UnitSequence, wave: Wave, sample_rate: int, pitch_range: PitchRange | None = None
) -> UnitSequence:
    """Give a sequence the F0 of the wave it was made from, one value per frame. Arguments and errors: `measure_f0`."""
    f0_F = measure_f0(wave, sample_rate, sequence.spec.frame_rate, sequence.n_frames, pitch_range)
    return replace(sequence, f0_hz=f0_F)


def unit_f0(f0_F: NDArray[np.float32], durations_T: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean F0 of the voiced frames of each unit: (T,) float32, 0 where a unit has none.

    f0_F: Hz, 0 where unvoiced. durations_T: frames of each unit, at least 1; their sum is F.
    Raises InputError where it is not.

    Source: Kharitonov et al. 2022, section 3 (F0 of a segment).
    """
    if int(durations_T.sum()) != len(f0_F):
        raise InputError(
            f"F0: expected one value for each of {int(durations_T.sum())} frames, got {len(f0_F)}; measure it anew"
        )
    if not len(f0_F):
        return np.zeros(0, dtype=np.float32)
    starts = np.concatenate([[0], np.cumsum(durations_T)[:-1]])
    sum_T = np.add.reduceat(f0_F.astype(np.float64), starts)
    n_voiced_T = np.add.reduceat((f0_F != 0).astype(np.int64), starts)
    return (sum_T / np.maximum(n_voiced_T, 1)).astype(np.float32)


def _pyin(wave: Wave, sample_rate: int, hop: int, pitch_range: PitchRange) -> NDArray[np.float32]:
    period = sample_rate / pitch_range.lowest_hz
    window = 64 * math.ceil(_PERIODS * period / 64)
    centred = wave[hop // 2 :].astype(np.float32)  # pYIN centres its frames on multiples of the hop
    if not len(centred):
        return np.zeros(0, dtype=np.float32)
    f0_F, voiced_F, _ = compiled_librosa().pyin(
        centred - centred.mean(),  # else the silence put at both ends would be a step
        fmin=pitch_range.lowest_hz,
        fmax=pitch_range.highest_hz,
        sr=sample_rate,
        frame_length=window,
        hop_length=hop,
        resolution=12 / _BINS_PER_OCTAVE,
    )
    # What hardly changes, a digital silence with an offset or a rumble, repeats best after the shortest period.
    voiced_F &= np.nan_to_num(f0_F) < pitch_range.highest_hz * 2 ** (-1 / _BINS_PER_OCTAVE)
    return np.where(voiced_F, f0_F, 0.0).astype(np.float32)
