"""Beam search with a prompted language model: what it goes on to say after `</s> u1 .. un <s>`.

SpeechPrompt's own way of decoding, where the answer is a row of units rather than one of the verbalizer's labels. Every
step reads the whole row again, as the reference does: an infix prompt enters between tokens that a cache would hold
already.

Shapes: B rows, T tokens, N hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechprompt.beam import BeamConfig, Hypothesis, beam_search
from speechprompt.prompted import PromptedLM


class PromptedDecoder:
    """A prompted language model as a StepDecoder; its past is the tokens themselves."""

    def __init__(self, prompted: PromptedLM) -> None:
        self.prompted = prompted
        vocab = prompted.lm.vocab
        self.pad, self.unk, self.max_positions = vocab.pad, vocab.unk, prompted.lm.max_positions
        self.ids_NT = torch.empty(0, 0, dtype=torch.int64, device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prompted.lm.device

    def start(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, T, V) after each of the first tokens; `<s>` may be among them or come later."""
        self.ids_NT = ids_BT
        hidden_BSD, column_BT = self.prompted.hidden(ids_BT)
        rows_B1 = torch.arange(len(ids_BT), device=self.device)[:, None]
        return self.prompted.lm.logits(hidden_BSD[rows_B1, column_BT])

    def step(self, ids_N: Tensor, rows_N: Tensor) -> Tensor:
        """Logits (N, V) after one more token."""
        self.ids_NT = torch.cat([self.ids_NT[rows_N], ids_N[:, None]], dim=1)
        hidden_NSD, column_NT = self.prompted.hidden(self.ids_NT)
        rows_N = torch.arange(len(ids_N), device=self.device)
        return self.prompted.lm.logits(hidden_NSD[rows_N, column_NT[:, -1]])


def beam_answers(
    prompted: PromptedLM, rows: Sequence[np.ndarray], config: BeamConfig
) -> list[list[Hypothesis]]:
    """What the model says after each row, best hypothesis first; tokens include the row, `<s>` and the last `</s>`.

    Args:
        prompted: in evaluation mode.
        rows: unit numbers (T,) int64.
        config: what to look for; its lengths count the row and `<s>`.
    Raises: InputError for unknown units, or rows too long for the model or for max_length.
    """
    vocab = prompted.lm.vocab
    forced = [np.append(vocab.encode(row), vocab.bos) for row in rows]
    return beam_search(PromptedDecoder(prompted), forced, start=vocab.eos, end=vocab.eos, config=config)
