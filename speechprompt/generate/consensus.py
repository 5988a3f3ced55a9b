"""The median of rows drawn from a model: the row with the least expected number of wrong units.

A row drawn is one thing that may stand there; where it says what others do not, it is mostly wrong. The median says
what most rows say, and nothing where they agree on nothing.

Source: Kumar and Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation"; Kohonen 1985, "Median
strings" (here by changes of one unit, from the drawn row that is nearest to all).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

_Row = tuple[int, ...]


def median_row(drawn: Sequence[np.ndarray]) -> np.ndarray:
    """A row (T,) int64 that takes few edits (units put in, left out or exchanged) to the drawn rows (T_i,) in sum.

    Of the drawn rows the nearest to all is changed by one unit after the other, as long as that makes the sum smaller:
    never more edits than any drawn row takes. There must be one at least.
    """
    rows: list[_Row] = [tuple(units.tolist()) for units in drawn]
    best = min(rows, key=lambda row: _edits(row, rows))
    fewest = _edits(best, rows)
    while True:
        changed = min(_one_edit_nearer(best, rows), key=lambda row: (_edits(row, rows), row), default=best)
        if (n_edits := _edits(changed, rows)) >= fewest:
            return np.array(best, dtype=np.int64)
        best, fewest = changed, n_edits


def _edits(row: _Row, rows: Sequence[_Row]) -> int:
    return sum(Levenshtein.distance(row, other) for other in rows)


def _one_edit_nearer(row: _Row, rows: Sequence[_Row]) -> Iterable[_Row]:
    """The row with each edit that makes it more like one of the others."""
    changed: set[_Row] = set()
    for other in rows:
        for edit in Levenshtein.editops(row, other):
            put_in = () if edit.tag == "delete" else (other[edit.dest_pos],)
            kept_from = edit.src_pos if edit.tag == "insert" else edit.src_pos + 1
            changed.add((*row[: edit.src_pos], *put_in, *row[kept_from:]))
    return changed
