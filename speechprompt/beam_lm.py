"""Beam search with a decoder-only unit language model: continuing rows of units.

Shapes: B rows, T tokens, N hypotheses of all rows, V vocabulary, D model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechprompt.beam import BeamConfig, Hypothesis, beam_search
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix


class LMDecoder:
    """A decoder-only unit LM as a StepDecoder, behind a deep prompt's prefix where there is one."""

    def __init__(self, lm: UnitLM, max_length: int, *, prefix: Prefix | None = None) -> None:
        self.lm = lm
        self.pad, self.unk, self.max_positions = lm.vocab.pad, lm.vocab.unk, lm.max_positions
        self.max_length = max_length
        self.prefix = prefix
        self.cache = lm.new_cache(0, 0)
        self.n_read = 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm.device

    def start(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, T, V) after each of the first tokens."""
        self.cache = self.lm.new_cache(len(ids_BT), self.max_length + 1, prefix=self.prefix)
        self.n_read = ids_BT.shape[1]
        return self.lm.logits(self.lm(self.lm.embed(ids_BT), cache=self.cache))

    def step(self, ids_N: Tensor, rows_N: Tensor) -> Tensor:
        """Logits (N, V) after one more token."""
        self.cache.reorder(rows_N)
        x_N1D = self.lm.embed(ids_N[:, None], n_before_B=torch.full_like(ids_N, self.n_read))
        self.n_read += 1
        return self.lm.logits(self.lm(x_N1D, cache=self.cache)[:, 0])


def beam_continuations(
    lm: UnitLM, rows: Sequence[np.ndarray], config: BeamConfig, *, prefix: Prefix | None = None
) -> list[list[Hypothesis]]:
    """Continue rows of units, best hypothesis first; their tokens include the row itself and `</s>`.

    Args:
        lm: the language model, in evaluation mode.
        rows: unit numbers (T,) int64; an empty one starts from nothing.
        config: what to look for.
        prefix: of a deep prompt, see `UnitLM.prefix`.
    Raises: InputError for unknown units, or rows too long for the model or for max_length.
    """
    forced = [lm.vocab.encode(row) for row in rows]
    decoder = LMDecoder(lm, config.max_length, prefix=prefix)
    return beam_search(decoder, forced, start=lm.vocab.eos, end=lm.vocab.eos, config=config)
