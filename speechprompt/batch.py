"""Rows of units to padded batches of similar length, within a budget of tokens, in a seeded order.

Shapes: B rows, T tokens of the longest row.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from speechprompt.augment import UnitAugmentation
from speechprompt.read_rows import prosody_of, unit_numbers
from speechprompt.vocab import UnitVocab
from units.errors import InputError

JITTER = 0.1  # share of its length by which a row's place in the sorting is shaken, so that batches differ by epoch


@dataclass(frozen=True, eq=False)
class LabelledUnits:
    """One utterance for a classifier.

    Attributes:
        units: a row as the language model reads it, (T,) int64 or (T, 3) float64; see `speechprompt.read_rows`.
        label: index of its class, or -1 where it is not known (prediction).
    """

    units: np.ndarray
    label: int = -1


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows `</s> u1 .. un <s>`, padded on the right; the label is read at `<s>`.

    Attributes:
        ids_BT: token ids, int64.
        lengths_B: tokens of each row without padding, int64; `<s>` stands at length - 1.
        labels_B: class indices, int64; -1 where not known.
        index_B: place of each row in the list the batches were made from, int64.
        prosody_BT2: duration in frames and normalised F0 of each token, float32, as in the rows: neither clamped nor
            delayed. 0 at `</s>`, `<s>` and padding. None for rows of units alone.
    """

    ids_BT: Tensor
    lengths_B: Tensor
    labels_B: Tensor
    index_B: Tensor
    prosody_BT2: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids_BT)

    @property
    def n_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths_B.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(self, **{name: x.to(device) for name, x in vars(self).items() if x is not None})


def collate(rows: Sequence[LabelledUnits], index: np.ndarray, vocab: UnitVocab) -> Batch:
    """Make one batch of `rows`, all of one kind, which stand at `index` in their list.

    Raises: InputError for an unknown unit.
    """
    lengths = np.array([len(row.units) + 2 for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), vocab.pad, dtype=np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[0] = vocab.eos
        line[1 : len(row.units) + 1] = vocab.encode(unit_numbers(row.units))
        line[len(row.units) + 1] = vocab.bos
    prosody_BT2 = None
    if rows[0].units.ndim == 2:
        prosody_BT2 = torch.zeros(*ids.shape, 2)
        for place, row in enumerate(rows):
            prosody_BT2[place, 1 : len(row.units) + 1] = torch.from_numpy(prosody_of(row.units))
    labels = torch.tensor([row.label for row in rows], dtype=torch.int64)
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(lengths),
        labels,
        torch.from_numpy(index.astype(np.int64)),
        prosody_BT2,
    )


def bucket(lengths: np.ndarray, batch_tokens: int, max_rows: int | None = None) -> list[np.ndarray]:
    """Cut rows, given in order of length, into runs of at most `batch_tokens` tokens, padding counted.

    A row longer than the budget is a batch by itself. Returns: index arrays into `lengths`, int64.
    """
    batches, start, longest = [], 0, 0
    for place, length in enumerate(lengths):
        longest = max(longest, int(length))
        n_rows = place - start + 1
        if n_rows > 1 and (n_rows * longest > batch_tokens or n_rows > (max_rows or n_rows)):
            batches.append(np.arange(start, place))
            start, longest = place, int(length)
    if len(lengths):
        batches.append(np.arange(start, len(lengths)))
    return batches


def shuffled_plan(
    lengths: np.ndarray, batch_tokens: int, seed: tuple[int, ...], max_rows: int | None = None
) -> list[np.ndarray]:
    """One epoch's batches, as index arrays: rows of about equal length together, batches in random order.

    The same `seed` gives the same plan, which is what lets training resume in the middle of an epoch.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(lengths * (1 + JITTER * rng.uniform(-1, 1, len(lengths))), kind="stable")
    batches = [order[run] for run in bucket(lengths[order], batch_tokens, max_rows)]
    return [batches[i] for i in rng.permutation(len(batches))]


class BucketedBatches:
    """All rows of a split as batches: shuffled by epoch for training, in order of length for evaluation.

    Args:
        rows: the utterances. Those with more than `max_positions` - 2 units keep their first ones, with a warning
            that counts them (also `n_truncated`).
        vocab: the language model's.
        batch_tokens: most tokens of a batch, padding counted.
        max_positions: most tokens of a row.
        seed: of the order and of the augmentation.
        max_rows: most rows of a batch, None for no limit.
        augmentation: how training rows are varied; None for not at all.
    Raises: InputError for no rows, a row without units, or a budget below 1.
    """

    def __init__(
        self,
        rows: Sequence[LabelledUnits],
        vocab: UnitVocab,
        *,
        batch_tokens: int,
        max_positions: int,
        seed: int = 0,
        max_rows: int | None = None,
        augmentation: UnitAugmentation | None = None,
    ) -> None:
        if not rows:
            raise InputError("batches: expected at least one utterance, got none; check the split")
        if batch_tokens < 1 or max_positions < 3 or (max_rows is not None and max_rows < 1):
            raise InputError(
                "batches: expected batch_tokens and max_rows of at least 1 and max_positions of at least 3"
            )
        empty = next((i for i, row in enumerate(rows) if not len(row.units)), None)
        if empty is not None:
            raise InputError(f"utterance {empty}: expected at least one unit, got none; leave it out")
        most = max_positions - 2
        self.n_truncated = sum(len(row.units) > most for row in rows)
        if self.n_truncated:
            warnings.warn(
                f"{self.n_truncated} of {len(rows)} utterances cut to their first {most} units", stacklevel=2
            )
        self.rows = [replace(row, units=row.units[:most]) for row in rows]
        self.vocab, self.batch_tokens, self.seed = vocab, batch_tokens, seed
        self.max_rows, self.augmentation = max_rows, augmentation
        self._lengths = np.array([len(row.units) + 2 for row in self.rows], dtype=np.int64)

    def n_batches(self, epoch: int) -> int:
        """Batches of one shuffled epoch; differs a little from epoch to epoch."""
        return len(self._plan(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Training batches of one epoch from batch `start` on: the same after a resume as without one."""
        for number, index in enumerate(self._plan(epoch)):
            if number < start:
                continue
            rows = [self.rows[i] for i in index]
            if self.augmentation is not None:
                rng = np.random.default_rng((self.seed, epoch, number, 1))
                rows = [
                    replace(
                        row,
                        units=self.augmentation(row.units, self.vocab.n_units, rng)[: self._lengths[i] - 2],
                    )
                    for i, row in zip(index, rows, strict=True)
                ]
            yield collate(rows, index, self.vocab)

    def in_order(self) -> Iterator[Batch]:
        """Every row once, unchanged, shortest first; `index_B` says where each row belongs."""
        order = np.argsort(self._lengths, kind="stable")
        for run in bucket(self._lengths[order], self.batch_tokens, self.max_rows):
            index = order[run]
            yield collate([self.rows[i] for i in index], index, self.vocab)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        return shuffled_plan(self._lengths, self.batch_tokens, (self.seed, epoch, 0), self.max_rows)
