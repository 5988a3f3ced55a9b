"""Speech as pGSLM's streams and back: a sequence with F0 to what the model reads, what it says to F0 for a vocoder.

Shapes: T units, F frames, S longest delay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_streams import Streams, delayed, utterance_streams
from speechprompt.lm.prosody import (
    F0Statistics,
    ProsodyConfig,
    f0_bins,
    known_edges,
    normalized_f0,
)
from units.errors import InputError
from units.pitch import unit_f0
from units.types import UnitSequence


def relative_f0(
    sequence: UnitSequence, prosody: ProsodyConfig, statistics: F0Statistics | None = None
) -> NDArray[np.float32]:
    """F0 of each unit, normalised as the model takes it, not yet in bins: (T,) float32.

    sequence: with f0_hz. statistics: the speaker's; None for those of the sequence itself.
    Raises: InputError for a sequence whose F0 was not measured.
    """
    if sequence.f0_hz is None:
        raise InputError("prosody: expected units with F0, got some without; quantize the recording with F0")
    statistics = statistics or F0Statistics.of(sequence.f0_hz)
    return normalized_f0(unit_f0(sequence.f0_hz, _durations(sequence)), prosody, statistics)


def prosodic_row(sequence: UnitSequence, prosody: ProsodyConfig) -> NDArray[np.float64]:
    """A row (T, 3) of units, durations and F0, see `speechprompt.read_rows`. Raises as `relative_f0`."""
    columns = (sequence.units, _durations(sequence), relative_f0(sequence, prosody))
    return np.column_stack(columns).astype(np.float64)


def seed_streams(sequence: UnitSequence, f0_T: NDArray[np.float32], lm: PGSLM) -> tuple[Streams, Streams]:
    """What the model reads before it goes on after `sequence`, and what it would read next of the units' prosody.

    sequence: deduplicated. f0_T: from `relative_f0`.
    Returns: delayed streams (1, T + 1) with `<s>`, and the (1, S) columns behind them, for `stream_positions`.
    """
    prosody = lm.prosody
    stream_T: NDArray[Any] = f0_bins(f0_T, known_edges(prosody)) if prosody.discrete_f0 else f0_T
    vocab = lm.vocab
    streams = utterance_streams(vocab.encode(sequence.units), _durations(sequence), stream_T, vocab, prosody)
    rows, _ = delayed(streams, vocab, prosody)
    rows = Streams(rows.tokens[None], rows.durations[None], rows.f0[None]).to(lm.device)
    n_given = len(sequence) + 1
    return rows.columns(None, n_given), rows.columns(n_given, None)


def f0_for_vocoder(
    f0_T: NDArray[np.float32], durations_T: NDArray[np.int64], prosody: ProsodyConfig, *, n_bins: int = 0
) -> NDArray[Any]:
    """Normalised F0 of units to what a vocoder reads: (F,), float32, or int64 bins where it reads `n_bins` of them.

    Raises: InputError for another number of bins than the model's, or unknown borders.
    """
    frames_F = np.repeat(f0_T.astype(np.float32), durations_T)
    if not n_bins:
        return frames_F
    if n_bins != prosody.n_f0_bins:
        raise InputError(
            f"vocoder: expected {prosody.n_f0_bins} F0 bins as the language model has, got {n_bins}; use its vocoder"
        )
    return f0_bins(frames_F, known_edges(prosody))


def hertz(f0_T: NDArray[np.float32], prosody: ProsodyConfig, statistics: F0Statistics) -> NDArray[np.float32]:
    """Normalised F0 as a speaker's Hz: (T,) float32. Undoes `normalized_f0` where it is not 0."""
    value_T = np.asarray(f0_T, dtype=np.float64)
    if prosody.normalize_f0_std:
        value_T = value_T * (statistics.log_std if prosody.log_f0 else statistics.std)
    if prosody.normalize_f0_mean:
        value_T = value_T + (statistics.log_mean if prosody.log_f0 else statistics.mean)
    value_T = np.exp(value_T) if prosody.log_f0 else np.maximum(value_T, 0)
    return value_T.astype(np.float32)


def _durations(sequence: UnitSequence) -> NDArray[np.int64]:
    if sequence.durations is None:
        return np.ones(len(sequence), dtype=np.int64)
    return sequence.durations
