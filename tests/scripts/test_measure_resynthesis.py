"""What resynthesis keeps: of units more than chance, and pitch compared at equal times."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.measure_resynthesis import pitch_kept, sentences_kept
from speechprompt.stack_folder import load_stack
from tasks.registry import get_task

RATE = 16_000


def hum(hz: float, seconds: float = 0.8) -> np.ndarray:
    """Ten harmonics of a tone, (n_samples,) float32."""
    time_N = np.arange(int(seconds * RATE)) / RATE
    return np.float32(0.1) * sum(np.sin(2 * np.pi * k * hz * time_N) / k for k in range(1, 11)).astype(
        np.float32
    )


def test_resynthesis_keeps_more_units_than_chance() -> None:
    utterances = get_task("spoken_digits").utterances("test")
    first_of = {utterance.target: utterance.path for utterance in reversed(utterances)}
    files = [path for path in list(first_of.values())[:5] if path is not None]
    figures = sentences_kept(load_stack("mini"), files, "george")
    low, high = figures["interval_95"]
    assert 0 < low <= figures["unit_error_rate"] <= high < figures["chance"]
    assert figures["n_sentences"] == 5 and 0 <= figures["voicing_error"] <= 1


def test_pitch_is_compared_at_equal_times() -> None:
    same = pitch_kept(hum(150), hum(150, 0.7), RATE)
    assert same.n_voiced > 50 and same.squared_cents / same.n_voiced < 10**2
    octave = pitch_kept(hum(150), hum(300), RATE)
    assert (octave.squared_cents / octave.n_voiced) ** 0.5 == pytest.approx(1200, rel=0.02)
    silent = pitch_kept(hum(150), np.zeros(RATE, dtype=np.float32), RATE)
    assert silent.n_voiced == 0 and silent.n_flipped > 50
