"""Verbalizers: how a class is read from the language model's output at the separator.

Shapes: B rows, D model dimension, V vocabulary, N labels. Every verbalizer chooses among the labels only, so that no
output is invalid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.base import UnitLM
from speechprompt.vocab import UnitVocab
from units.errors import InputError

VERBALIZER_KINDS = ("learnable", "random", "frequency")
Read = Literal["logits", "hidden"]


class Verbalizer(nn.Module, ABC):
    """Turns the final hidden state at the separator into one score per label.

    Attributes:
        n_labels: number of classes N.
    """

    n_labels: int

    @abstractmethod
    def forward(self, hidden_BD: Tensor, lm: UnitLM) -> Tensor:
        """Hidden states after the last norm, float32 (B, D), to label logits (B, N)."""


class TokenVerbalizer(Verbalizer):
    """One token per label: a label's score is the logit of its token. Nothing to train.

    Args:
        ids: token ids (N,) int64, all different.
    Raises: InputError for labels that share a token.
    """

    ids: Tensor

    def __init__(self, ids: np.ndarray | Tensor) -> None:
        super().__init__()
        ids = torch.as_tensor(ids, dtype=torch.int64)
        if len(ids.unique()) != len(ids):
            raise InputError("verbalizer: expected a token of its own for every label, got a shared one")
        self.register_buffer("ids", ids.clone())
        self.n_labels = len(ids)

    def forward(self, hidden_BD: Tensor, lm: UnitLM) -> Tensor:
        """Logits of the labels' tokens; no other row of the output projection is computed."""
        return lm.logits(hidden_BD, self.ids)


class RandomVerbalizer(TokenVerbalizer):
    """Labels take different units drawn at random with `seed`. Raises: InputError for more labels than units."""

    def __init__(self, n_labels: int, vocab: UnitVocab, *, seed: int = 0) -> None:
        _require_units(n_labels, vocab)
        super().__init__(np.random.default_rng(seed).permutation(vocab.unit_ids)[:n_labels])


class FrequencyVerbalizer(TokenVerbalizer):
    """The i-th label takes the i-th most frequent unit of the training rows, ties to the lower unit number.

    Args:
        n_labels: number of classes.
        vocab: the language model's.
        unit_counts: how often each unit number occurs in the training rows, (n_units,).
    Raises: InputError for more labels than units.
    """

    def __init__(self, n_labels: int, vocab: UnitVocab, unit_counts: np.ndarray) -> None:
        _require_units(n_labels, vocab)
        units = vocab.decode(vocab.unit_ids)
        counts = np.zeros(vocab.n_units, dtype=np.int64)
        counts[: len(unit_counts)] = unit_counts[: vocab.n_units]
        super().__init__(vocab.encode(units[np.argsort(-counts[units], kind="stable")][:n_labels]))


class LearnableVerbalizer(Verbalizer):
    """A trained linear map without bias, from vocabulary logits or from the hidden state, to label logits.

    Source: SpeechPrompt v2 (Chang et al. 2023) for read="logits", there with four more rows for special tokens that
    no decision needs; dropout is on what is read, not on the scores.

    Args:
        n_labels: number of classes.
        n_inputs: V for read="logits", the width of the final hidden state for read="hidden".
        read: "logits" or "hidden".
        dropout: on what is read, in training.
        seed: of the first weights.
    """

    def __init__(
        self, n_labels: int, n_inputs: int, *, read: Read = "logits", dropout: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # Small, so that training starts near equal probabilities instead of undoing confident guesses.
        self.weight = nn.Parameter(
            torch.randn(n_labels, n_inputs, generator=generator) * 0.1 * n_inputs**-0.5
        )
        self.dropout = nn.Dropout(dropout)
        self.read = read
        self.n_labels = n_labels

    def forward(self, hidden_BD: Tensor, lm: UnitLM) -> Tensor:
        """Label logits: dropout of what is read, times the trained weights."""
        source = lm.logits(hidden_BD) if self.read == "logits" else hidden_BD
        return F.linear(self.dropout(source), self.weight)


def make_verbalizer(
    kind: str,
    n_labels: int,
    lm: UnitLM,
    *,
    read: str = "logits",
    dropout: float = 0.1,
    seed: int = 0,
    unit_counts: np.ndarray | None = None,
) -> Verbalizer:
    """Make a verbalizer by name.

    Args:
        kind: "learnable", "random" or "frequency".
        n_labels: number of classes, at least 1.
        lm: the language model it reads from.
        read: what "learnable" reads: "logits" or "hidden".
        dropout: of "learnable".
        seed: of "learnable" and "random".
        unit_counts: of "frequency": how often each unit number occurs in the training rows, (n_units,).
    Raises: InputError for an unknown kind or read, no labels, more labels than units, or counts left out.
    """
    if n_labels < 1:
        raise InputError(f"verbalizer: expected at least one label, got {n_labels}")
    if read not in get_args(Read):
        raise InputError(f"verbalizer: expected read {' or '.join(get_args(Read))}, got {read!r}")
    if kind == "random":
        return RandomVerbalizer(n_labels, lm.vocab, seed=seed)
    if kind == "frequency":
        if unit_counts is None:
            raise InputError("frequency verbalizer: expected counts of the training units, got none")
        return FrequencyVerbalizer(n_labels, lm.vocab, unit_counts)
    if kind == "learnable":
        n_inputs = len(lm.vocab) if read == "logits" else lm.d_output
        return LearnableVerbalizer(n_labels, n_inputs, read=cast("Read", read), dropout=dropout, seed=seed)
    raise InputError(f"verbalizer: expected kind {', '.join(VERBALIZER_KINDS)}, got {kind!r}")


def _require_units(n_labels: int, vocab: UnitVocab) -> None:
    if n_labels > len(vocab.unit_ids):
        raise InputError(
            f"verbalizer: expected at most {len(vocab.unit_ids)} labels, one per unit, got {n_labels}; use learnable"
        )
