"""Small random changes of unit rows in training, against learning few recordings by heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechprompt.read_rows import unit_numbers
from speechprompt.vocab import UnitVocab
from units.errors import InputError


@dataclass(frozen=True)
class UnitAugmentation:
    """Drops units and replaces units by random ones, each independently.

    Repeats that this makes in a deduplicated row are merged, so that the row stays deduplicated. At least one unit
    is left. In a row with prosody (`speechprompt.read_rows`) a replaced unit keeps the duration and F0 of the one it
    replaces; what is merged lasts as long as all of it, and has its mean F0, by duration.

    Attributes:
        p_drop: probability that a unit is left out.
        p_replace: probability that a unit becomes a random one.
    Raises: InputError for probabilities outside 0 to 1, 1 itself excluded for p_drop.
    """

    p_drop: float = 0.0
    p_replace: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.p_drop < 1 and 0 <= self.p_replace <= 1):
            raise InputError(
                f"augmentation: expected probabilities from 0 to 1, got {self.p_drop}, {self.p_replace}"
            )

    def __call__(self, row: np.ndarray, n_units: int, rng: np.random.Generator) -> np.ndarray:
        """Vary one row of either kind, units below `n_units`; returns a new one of 1 to T units, of the same dtype."""
        units = unit_numbers(row)
        deduplicated = not (units[1:] == units[:-1]).any()
        kept = rng.random(len(units)) >= self.p_drop
        if len(units) and not kept.any():
            kept[rng.integers(len(units))] = True
        replaced = rng.random(len(units)) < self.p_replace
        varied = np.where(replaced, rng.integers(n_units, size=len(units)), units)[kept].astype(np.int64)
        begins = np.ones(len(varied), dtype=bool)
        if deduplicated:
            begins[1:] = varied[1:] != varied[:-1]
        return varied[begins] if row.ndim == 1 else _merged(varied, row[kept, 1], row[kept, 2], begins)


def _merged(units: np.ndarray, durations: np.ndarray, f0: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """A row with prosody (n, 3) in which one unit stands for each place that `begins` and those up to the next."""
    starts = np.flatnonzero(begins)
    merged = np.add.reduceat(durations, starts)
    share = durations / merged[np.cumsum(begins) - 1]
    return np.stack([units[begins], merged, np.add.reduceat(share * f0, starts)], axis=1)


def augment_row(
    row: np.ndarray, vocab: UnitVocab, augmentation: UnitAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """Vary the units of a token row; the special tokens at its ends stay."""
    special = row == vocab.eos
    first, last = int(special[0]), len(row) - int(special[-1])
    if first >= last:
        return row
    units = augmentation(vocab.decode(row[first:last]), vocab.n_units, rng)
    return np.concatenate([row[:first], vocab.encode(units), row[last:]])
