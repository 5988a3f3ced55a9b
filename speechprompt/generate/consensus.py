"""Of several candidates the one that the others agree with most: the least expected number of wrong units.

Source: Kumar and Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from tasks.metrics import word_edits


def most_agreed(candidates: Sequence[np.ndarray]) -> int:
    """Index of the candidate (T,) int64 that takes the fewest edits to the others in sum; the first of equal ones."""
    if len(candidates) < 2:
        return 0
    texts = [" ".join(map(str, units.tolist())) for units in candidates]
    pairs = list(permutations(range(len(texts)), 2))
    # A text without words is no target for jiwer: what it costs is known.
    costs = np.array([len(candidates[other]) for _, other in pairs])
    told = [place for place, (one, _) in enumerate(pairs) if texts[one]]
    if told:
        errors, _ = word_edits([texts[pairs[p][0]] for p in told], [texts[pairs[p][1]] for p in told])
        costs[told] = errors
    return int(np.argmin(costs.reshape(len(texts), -1).sum(1)))
