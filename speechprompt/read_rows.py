"""Rows as language models read them: units alone, or beside each unit how long it lasts and how high it is.

Most language models read units: a row is (T,) int64. One that `reads_prosody` (pGSLM) takes (T, 3) float64, which holds
whole numbers exactly: unit number; duration in frames, not clamped; F0, normalised by the recording's own statistics,
not in bins, 0 where unvoiced. Nothing is delayed: clamping, bins and delays are the language model's, which has them in
its configuration. `Stack.as_read` makes rows. Of both kinds `len(row)` is T, and `row[:n]` are the first n units.

Shapes: T units.
"""

from __future__ import annotations

import numpy as np


def unit_numbers(row: np.ndarray) -> np.ndarray:
    """The units of a row of either kind: (T,) int64."""
    return row if row.ndim == 1 else row[:, 0].astype(np.int64)


def prosody_of(row: np.ndarray) -> np.ndarray:
    """Durations and F0 of a row that has them: (T, 2) float32."""
    return row[:, 1:].astype(np.float32)
