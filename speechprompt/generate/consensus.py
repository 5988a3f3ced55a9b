"""Of several candidates the one that the others agree with most: the least expected number of wrong units.

Source: Kumar and Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from tasks.metrics import word_edits


def most_agreed(candidates: Sequence[np.ndarray]) -> int:
    """Index of the candidate (T,) int64 that takes the fewest edits to the others in sum; the first of equal ones."""
    if len(candidates) < 2:
        return 0
    texts = [" ".join(map(str, units.tolist())) for units in candidates]
    costs = np.zeros(len(texts), dtype=np.int64)
    # A text without words is no target for jiwer: it costs all units of the others.
    empty = np.array([not text for text in texts])
    lengths = np.array([len(units) for units in candidates])
    costs[empty] = lengths.sum()
    costs[~empty] = lengths[~empty] * int(empty.sum())
    pairs = list(combinations(np.flatnonzero(~empty), 2))
    if pairs:
        errors, _ = word_edits([texts[one] for one, _ in pairs], [texts[other] for _, other in pairs])
        for both, n_errors in zip(pairs, errors, strict=True):
            costs[list(both)] += n_errors
    return int(np.argmin(costs))
