"""How well a unit language model predicts units, next to what unit frequencies alone reach.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.batch import bucket
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.vocab import UnitVocab
from tasks.metrics import ratio_interval
from units.errors import InputError


def rows_of(sequences: Sequence[np.ndarray], vocab: UnitVocab, max_positions: int) -> list[np.ndarray]:
    """Token rows `</s> u1 .. un </s>` of unit arrays; longer ones are cut into pieces of `max_positions` + 1 tokens."""
    rows = []
    for units in sequences:
        ids = np.concatenate([[vocab.eos], vocab.encode(units), [vocab.eos]])
        # Neighbouring pieces share one token: the last target of a piece is the next one's first input.
        pieces = [ids[i : i + max_positions + 1] for i in range(0, len(ids) - 1, max_positions)]
        rows += [piece.astype(np.int64) for piece in pieces if len(piece) > 1]
    return rows


def padded(rows: Sequence[np.ndarray], pad: int) -> Tensor:
    """Stack token rows (T,) to int64 (B, longest), padded on the right."""
    tensors = [torch.from_numpy(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad)


def row_losses(lm: UnitLM, row_BT: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Summed cross entropy, in nats, of each row's tokens after the first: (B,) float32."""
    return token_losses(lm, row_BT, label_smoothing).sum(1)


def token_losses(
    lm: UnitLM, row_BT: Tensor, label_smoothing: float = 0.0, *, prefix: Prefix | None = None
) -> Tensor:
    """Cross entropy, in nats, of each token after the first, 0 at padding: (B, T - 1) float32."""
    logits_BTV = lm.logits(lm(lm.embed(row_BT[:, :-1]), prefix=prefix)).float()
    return F.cross_entropy(
        logits_BTV.transpose(1, 2),
        row_BT[:, 1:],
        ignore_index=lm.vocab.pad,
        reduction="none",
        label_smoothing=label_smoothing,
    )


@torch.no_grad()
def sequence_losses(
    lm: UnitLM,
    sequences: Sequence[np.ndarray],
    *,
    given: Sequence[int] | None = None,
    end: bool = True,
    prefix: Prefix | None = None,
    batch_tokens: int = 8_192,
) -> tuple[np.ndarray, np.ndarray]:
    """Summed cross entropy, in nats, and number of tokens of each unit array: (N,) float64 and (N,) int64.

    given: units at the beginning of each that are read and not counted; None for none. end: count the final `</s>`,
    which a cut-off sequence does not have. prefix: of a deep prompt, see `UnitLM.prefix`. Uses evaluation
    mode. What the model cannot read at once is read in pieces.
    """
    n_given = [0] * len(sequences) if given is None else given
    rows, owners, counted = [], [], []
    for owner, (units, n_before) in enumerate(zip(sequences, n_given, strict=True)):
        before = n_before
        for row in rows_of([units], lm.vocab, lm.max_positions):
            n_targets = len(row) - 1
            rows.append(row)
            owners.append(owner)
            counted.append((min(before, n_targets), n_targets))
            before = max(0, before - n_targets)
        if not end:
            counted[-1] = (counted[-1][0], counted[-1][1] - 1)
    losses_N, counts_N = np.zeros(len(sequences)), np.zeros(len(sequences), dtype=np.int64)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    training = lm.training
    lm.eval()
    for run in bucket(np.array([len(rows[i]) for i in order]), batch_tokens):
        index = [order[i] for i in run]
        row_BT = padded([rows[i] for i in index], lm.vocab.pad).to(lm.device)
        losses_BT = token_losses(lm, row_BT, prefix=prefix).double().cpu().numpy()
        for i, loss_T in zip(index, losses_BT, strict=True):
            first, last = counted[i]
            losses_N[owners[i]] += loss_T[first:last].sum()
            counts_N[owners[i]] += max(0, last - first)
    lm.train(training)
    return losses_N, counts_N


def perplexity(lm: UnitLM, sequences: Sequence[np.ndarray], batch_tokens: int = 8_192) -> float:
    """Perplexity per token of unit arrays, the final `</s>` counted; NaN for none. Uses evaluation mode."""
    losses_N, counts_N = sequence_losses(lm, sequences, batch_tokens=batch_tokens)
    return math.exp(losses_N.sum() / counts_N.sum()) if counts_N.sum() else math.nan


def perplexity_measures(
    lm: UnitLM,
    sequences: Sequence[np.ndarray],
    *,
    given: Sequence[int] | None = None,
    prefix: Prefix | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`perplexity` per unit of unit arrays, without their end, and its 95% bootstrap interval over sequences.

    given, prefix: as `sequence_losses`. Raises InputError where no unit is left to be counted.
    """
    losses_N, counts_N = sequence_losses(lm, sequences, given=given, end=False, prefix=prefix)
    if not counts_N.sum():
        raise InputError("perplexity: expected units behind those given, got none; generate some")
    low, high = ratio_interval(losses_N, counts_N, seed=seed)
    value = math.exp(losses_N.sum() / counts_N.sum())
    return {"perplexity": value, "perplexity_interval_95": [math.exp(low), math.exp(high)]}


def unigram_perplexity(
    sequences: Sequence[np.ndarray], valid: Sequence[np.ndarray], vocab: UnitVocab, max_positions: int
) -> float:
    """Perplexity of `valid` under the token frequencies of `sequences`, add-one smoothed; NaN for none."""
    train_ids = [row[1:] for row in rows_of(sequences, vocab, max_positions)]
    valid_ids = [row[1:] for row in rows_of(valid, vocab, max_positions)]
    if not valid_ids:
        return math.nan
    counts = np.bincount(np.concatenate(train_ids), minlength=len(vocab))[[vocab.eos, *vocab.unit_ids]] + 1.0
    log_probability = np.full(len(vocab), -np.inf)
    log_probability[[vocab.eos, *vocab.unit_ids]] = np.log(counts / counts.sum())
    return float(np.exp(-log_probability[np.concatenate(valid_ids)].mean()))
