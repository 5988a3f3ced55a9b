"""How well a unit language model predicts units, next to what unit frequencies alone reach.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.batch import bucket
from speechprompt.lm.base import UnitLM
from speechprompt.vocab import UnitVocab


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
    logits_BTV = lm.logits(lm(lm.embed(row_BT[:, :-1]))).float()
    losses_BT = F.cross_entropy(
        logits_BTV.transpose(1, 2),
        row_BT[:, 1:],
        ignore_index=lm.vocab.pad,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses_BT.sum(1)


@torch.no_grad()
def perplexity(lm: UnitLM, sequences: Sequence[np.ndarray], batch_tokens: int = 8_192) -> float:
    """Perplexity per token of unit arrays, the final `</s>` counted; NaN for none. Uses evaluation mode."""
    rows = sorted(rows_of(sequences, lm.vocab, lm.max_positions), key=len)
    training = lm.training
    lm.eval()
    total, count = 0.0, 0
    for run in bucket(np.array([len(row) for row in rows]), batch_tokens):
        row_BT = padded([rows[i] for i in run], lm.vocab.pad).to(lm.device)
        total += float(row_losses(lm, row_BT).double().sum())
        count += int(row_BT[:, 1:].ne(lm.vocab.pad).sum())
    lm.train(training)
    return math.exp(total / count) if count else math.nan


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
