"""Two recordings of the same words, whose sounds need not last equally long: compared along the best alignment.

Shapes: N samples, F frames, S steps of the alignment, C coefficients.

Source: Sakoe and Chiba 1978 (dynamic time warping, by librosa); Kubichek 1993 (mel-cepstral distance), which is then
known as MCD-DTW.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.metrics.bootstrap import bootstrap_interval
from tasks.metrics.f0_error import FRAME_RATE, F0Difference, f0_difference, f0_measures, speech_f0
from tasks.metrics.mel_cepstrum import HOP_S, frame_distances, mel_cepstrum
from units.compiled_librosa import compiled_librosa
from units.errors import InputError

LONGEST_S = 30.0  # an alignment costs memory with the square of the length: 0.4 GB for this


@dataclass(frozen=True)
class RecordingDifference:
    """What two recordings differ by. mel_cepstral_distance: dB. f0: see F0Difference."""

    mel_cepstral_distance: float
    f0: F0Difference


def alignment(reference_CF: np.ndarray, other_CF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of both that belong together, from first to last: (S,) int64 each, neither ever decreasing.

    reference_CF, other_CF: (C, F) cepstra. The way through all frames whose distances have the least sum.
    """
    _, path_S2 = compiled_librosa().sequence.dtw(X=reference_CF, Y=other_CF, metric="euclidean")
    path_S2 = path_S2[::-1]
    return path_S2[:, 0], path_S2[:, 1]


def compare_recordings(reference: np.ndarray, other: np.ndarray, sample_rate: int) -> RecordingDifference:
    """Compare two waves (N,) float32 at one rate along their alignment by mel cepstra.

    Raises InputError: an empty wave, or one longer than 30 s.
    """
    longest_s = max(len(reference), len(other)) / sample_rate
    if longest_s > LONGEST_S:
        raise InputError(
            f"alignment: expected recordings of at most {LONGEST_S:g} s, got {longest_s:.1f} s; cut them into sentences"
        )
    first_CF, second_CF = (mel_cepstrum(wave, sample_rate) for wave in (reference, other))
    first_S, second_S = alignment(first_CF, second_CF)
    distance = float(frame_distances(first_CF[:, first_S], second_CF[:, second_S]).mean())
    f0 = [
        _at(speech_f0(wave, sample_rate), step_S)
        for wave, step_S in ((reference, first_S), (other, second_S))
    ]
    return RecordingDifference(distance, f0_difference(f0[0], f0[1]))


def aligned_measures(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], sample_rate: int, *, seed: int = 0
) -> dict[str, Any]:
    """Mean aligned mel-cepstral distance (dB) and F0 error of pairs of waves, with 95% bootstrap intervals.

    Returns `aligned_mel_cepstral_distance`, and those of `f0_measures` with the prefix "aligned_". Raises InputError
    as `compare_recordings`, and without pairs.
    """
    differences = [compare_recordings(reference, other, sample_rate) for reference, other in pairs]
    distances = np.array([difference.mel_cepstral_distance for difference in differences])
    interval = bootstrap_interval(distances, seed=seed)
    return {
        "aligned_mel_cepstral_distance": float(distances.mean()),
        "aligned_mel_cepstral_distance_interval_95": list(interval),
        **f0_measures([difference.f0 for difference in differences], prefix="aligned_", seed=seed),
    }


def _at(f0_F: np.ndarray, step_S: np.ndarray) -> np.ndarray:
    """F0 at the frames of an alignment; beyond the last one nothing is voiced."""
    place_S = np.floor(step_S * HOP_S * FRAME_RATE + 1e-9).astype(np.int64)
    f0_S = np.zeros(len(step_S), dtype=np.float32)
    inside_S = place_S < len(f0_F)
    f0_S[inside_S] = f0_F[place_S[inside_S]]
    return f0_S
