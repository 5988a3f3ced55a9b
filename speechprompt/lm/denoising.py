"""What unit mBART is trained on: rows with sentences permuted and spans masked, and the rows to restore.

A target row is `<s> u1 .. un </s> [language]`, or several sentences, each with its `</s>`. The decoder reads it with
the tag moved to the front.

Shapes: T tokens of a row, B rows.

Source: Lewis et al. 2020 (BART), section 2.2, text infilling; Liu et al. 2020 (mBART); fairseq's
multilingual_denoising.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechprompt.vocab import MBartVocab
from units.errors import InputError

Row = NDArray[np.int64]


@dataclass(frozen=True)
class DenoisingConfig:
    """How rows are damaged; the defaults of the masks are those of the unit mBART checkpoint.

    Attributes:
        permuted: probability that the sentences of a row come in a random order, where it has several.
        masked: share of the tokens that lie in masked spans.
        random: share of the masks that are a random token instead.
        mean_span: mean of the Poisson distribution of span lengths; a span of 0 tokens inserts a mask.
        mask_each: a mask for every token of a span in place of one for all of them, so that a row tells how much is
            missing; spans of 0 tokens are then passed over (fairseq's replace_length of -1).
        shaken: with mask_each, how far the number of masks of a span may be from that of its tokens, as a share of it:
            then a model must find by what it reads, not by place, where it is behind a span.
    Raises: InputError for values outside their range.
    """

    permuted: float = 1.0
    masked: float = 0.35
    random: float = 0.1
    mean_span: float = 3.5
    mask_each: bool = False
    shaken: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.permuted, self.masked, self.random, self.shaken)
        if not (all(0 <= share <= 1 for share in shares) and self.mean_span > 0):
            raise InputError(f"denoising: expected shares in [0, 1] and mean_span > 0, got {self}")
        if self.shaken and not self.mask_each:
            raise InputError(
                "denoising: expected mask_each where the number of masks is shaken, got one mask a span"
            )

    def longest_target(self, n_positions: int) -> int:
        """Tokens of the longest target row whose damaged row fits into `n_positions`.

        Without mask_each a mask put in never makes a row longer than its masked spans shortened it, except in rows of a
        few tokens.
        """
        return int(n_positions / (1 + self.masked * self.shaken))


@dataclass(frozen=True, eq=False)
class DenoisingBatch:
    """Rows padded on the right, longest source first; int64.

    source_BS: damaged rows. previous_BT: what the decoder reads, the tag first. target_BT: what it is to say.
    """

    source_BS: Tensor
    previous_BT: Tensor
    target_BT: Tensor


def denoising_target(units: NDArray[np.int64], language: str, vocab: MBartVocab) -> Row:
    """`<s> u1 .. un </s> [language]`. Raises: InputError for unknown units, or an unknown language."""
    return document_target([units], language, vocab)


def document_target(sentences: Sequence[NDArray[np.int64]], language: str, vocab: MBartVocab) -> Row:
    """`<s>`, each sentence's units and `</s>`, `[language]`. Errors as `denoising_target`."""
    parts = [part for units in sentences for part in (vocab.encode(units), [vocab.eos])]
    return np.concatenate([[vocab.bos], *parts, [vocab.language_id(language)]], dtype=np.int64)


def permuted(
    target_T: Row, vocab: MBartVocab, config: DenoisingConfig, generator: np.random.Generator
) -> Row:
    """Put the sentences of a target row into a random order; its first and last token stay as they are."""
    ends = np.flatnonzero(target_T == vocab.eos) + 1
    if len(ends) < 2 or generator.random() >= config.permuted:
        return target_T.copy()
    sentences = np.split(target_T[1 : ends[-1]], ends[:-1] - 1)
    order = generator.permutation(len(sentences))
    return np.concatenate([target_T[:1], *(sentences[i] for i in order), target_T[ends[-1] :]])


def damaged(target_T: Row, vocab: MBartVocab, config: DenoisingConfig, generator: np.random.Generator) -> Row:
    """Replace spans of a target row by masks, one each or one a token; its first and last token stay as they are."""
    budget = math.ceil((len(target_T) - 2) * config.masked)
    if budget <= 0:
        return target_T.copy()
    lengths: list[int] = []
    while sum(lengths) < budget:
        lengths.append(int(generator.poisson(config.mean_span)))
    lengths[-1] -= sum(lengths) - budget
    spans = [length for length in lengths if length]
    row_T, kept_T = target_T.copy(), np.ones(len(target_T), dtype=bool)
    inner = np.arange(1, len(target_T) - 1)
    starts = generator.choice(inner, size=min(len(spans), len(inner)), replace=False)
    if config.mask_each:
        ends = np.minimum(starts + spans[: len(starts)], len(target_T) - 1)
        places = np.unique(np.concatenate([np.arange(*span) for span in zip(starts, ends, strict=True)]))
        return _each_masked(row_T, places, vocab, config, generator)
    row_T[starts] = _masks(len(starts), vocab, config, generator)
    for start, length in zip(starts, spans, strict=False):
        kept_T[start + 1 : min(start + length, len(target_T) - 1)] = False
    row_T = row_T[kept_T]
    n_inserted = len(lengths) - len(spans)
    places = generator.integers(1, len(row_T), size=n_inserted)
    return np.insert(row_T, places, _masks(n_inserted, vocab, config, generator))


def _each_masked(
    row_T: Row, places: Row, vocab: MBartVocab, config: DenoisingConfig, generator: np.random.Generator
) -> Row:
    """Masks at ascending places, for each run of them as many, or nearly as many where that is shaken."""
    parts, start = [], 0
    for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
        n = len(run)
        if config.shaken:
            n += int(n * config.shaken * generator.uniform(-1, 1))
        parts += [row_T[start : run[0]], _masks(n, vocab, config, generator)]
        start = run[-1] + 1
    return np.concatenate([*parts, row_T[start:]])


def _masks(n: int, vocab: MBartVocab, config: DenoisingConfig, generator: np.random.Generator) -> Row:
    """N masks, some of them random tokens (any but `<s>`)."""
    masks = np.full(n, vocab.mask, dtype=np.int64)
    random = generator.random(n) < config.random
    masks[random] = generator.integers(1, len(vocab), size=int(random.sum()))
    return masks


def denoising_batch(sources: Sequence[Row], targets: Sequence[Row], vocab: MBartVocab) -> DenoisingBatch:
    """Pad rows together, longest source first; rows of one length keep their order."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))

    def together(rows: Sequence[Row]) -> Tensor:
        return pad_sequence(
            [torch.from_numpy(rows[i]) for i in order], batch_first=True, padding_value=vocab.pad
        )

    return DenoisingBatch(
        together(sources), together([np.roll(row, 1) for row in targets]), together(targets)
    )
