"""Holding out a tenth of the training rows where a data set has no validation split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tasks.csv_table import TableRow

SHARE = 0.1  # of the rows
SEED = 0  # fixed, not the training's: every run on a data set validates on the same rows


def hold_out_tenth(rows: Sequence[TableRow], seed: int = SEED) -> tuple[list[TableRow], list[TableRow]]:
    """Split rows into training and validation rows, by speaker where every row names one.

    By speaker: whole speakers, drawn at random until they have a tenth of the rows, so that validation is on
    unheard voices; at most a fifth, or, with few speakers, those with the fewest rows up to a half. Where that
    cannot be (one speaker, a label that no other speaker says) and where speakers are unknown: a tenth of the
    rows of every label, rounded up. A label never loses its last training row.

    The outcome depends on the rows and the seed, not on the rows' order; both parts keep that order.
    """
    rng = np.random.default_rng(seed)
    speakers = [row.speaker for row in rows]
    held_out = _by_speaker(rows, rng) if all(speakers) and len(set(speakers)) > 1 else set()
    held_out = held_out or _by_label(rows, rng)
    train = [row for row in rows if row.relative not in held_out]
    return train, [row for row in rows if row.relative in held_out]


def _by_speaker(rows: Sequence[TableRow], rng: np.random.Generator) -> set[str]:
    """Paths of the rows of the speakers drawn; empty if those that can be spared have hardly any rows."""
    sizes = Counter(str(row.speaker) for row in rows)
    label_counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        label_counts[str(row.speaker)][row.label] += 1
    left = Counter(row.label for row in rows)
    wanted = SHARE * len(rows)
    drawn: set[str] = set()

    def draw(candidates: Sequence[str], enough: float, most: float) -> bool:
        """Draw speakers up to `enough` rows, none beyond `most`, every label keeping a training row."""
        for speaker in candidates:
            n_drawn = sum(sizes[name] for name in drawn)
            if n_drawn >= enough:
                break
            spared = all(left[label] > n for label, n in label_counts[speaker].items())
            if speaker not in drawn and spared and n_drawn + sizes[speaker] <= most:
                drawn.add(speaker)
                left.subtract(label_counts[speaker])
        return sum(sizes[name] for name in drawn) >= enough

    order = rng.permutation(sorted(sizes)).tolist()
    draw(order, enough=wanted, most=2 * wanted)
    if not draw(sorted(order, key=sizes.__getitem__), enough=wanted / 2, most=len(rows) / 2):
        return set()
    return {row.relative for row in rows if row.speaker in drawn}


def _by_label(rows: Sequence[TableRow], rng: np.random.Generator) -> set[str]:
    """Paths of a tenth of the rows of every label."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row.relative)
    held_out: set[str] = set()
    for label in sorted(by_label):
        paths = sorted(by_label[label])
        n = min(int(np.ceil(SHARE * len(paths))), len(paths) - 1)
        held_out.update(rng.permutation(paths)[:n].tolist())
    return held_out
