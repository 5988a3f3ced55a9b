"""A prompt that makes a frozen unit LM go on as the recordings do that it was trained on: model, rows, objective.

Shapes: B rows, T tokens, R positions read, V vocabulary, D model dimension.

Source: Wu et al. 2023 (SpeechGen), continuation; there the prompt steers a unit mBART, here a decoder-only LM.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.batch import LabelledUnits, shuffled_plan
from speechprompt.checkpoint import rows_fingerprint
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.objective import Objective, Validation
from speechprompt.perplexity import sequence_losses
from speechprompt.prompt import Prompt
from speechprompt.steered import Steered
from speechprompt.train_config import TrainConfig
from speechprompt.vocab import UnitVocab
from units.errors import InputError

if TYPE_CHECKING:  # takes a second to import
    from accelerate import Accelerator

IGNORED = -100  # target of padding: cross entropy leaves it out


@dataclass(frozen=True, eq=False)
class ContinuationBatch:
    """Rows `</s> u1 .. u(n-1)`, padded on the right, and what follows from the end of their seeds on.

    ids_BT: token ids, int64. read_BR: columns that are read, int64; a row with fewer repeats its last one. target_BR:
    the token that follows each, IGNORED in repeats.
    """

    ids_BT: Tensor
    read_BR: Tensor
    target_BR: Tensor

    def to(self, device: torch.device | str) -> ContinuationBatch:
        """The same batch on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})


class PromptedContinuation(Steered):
    """Tells what follows a seed, steered by a deep prompt. The language model is frozen and not changed."""

    lm: UnitLM

    def __init__(self, lm: UnitLM, prompt: Prompt) -> None:
        super().__init__()
        self.lm = lm.freeze()
        self.prompt = prompt

    def prefix(self) -> Prefix | None:
        """What `decode.stream` reads before the first unit; in evaluation mode, without gradients."""
        with torch.no_grad():
            return self.prompt.prefix(self.lm)

    def forward(self, batch: ContinuationBatch) -> Tensor:
        """Logits of what follows each column that is read: (B, R, V)."""
        hidden_BRD = self.lm(
            self.lm.embed(batch.ids_BT),
            prefix=self.prompt.prefix(self.lm),
            read_positions=batch.read_BR,
        )
        return self.lm.logits(hidden_BRD)


class ContinuationBatches:
    """Units of recordings as batches; how much of each is heard is drawn anew in every epoch.

    Args:
        rows: units (T,) int64 as the language model reads them, two or more each.
        ratios: shares of a recording that may be heard.
        Others as `BucketedBatches`; rows longer than `max_positions` keep their beginning.
    Raises: InputError for no rows, or one of a single unit.
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        vocab: UnitVocab,
        ratios: Sequence[float],
        *,
        batch_tokens: int,
        max_positions: int,
        seed: int = 0,
        max_rows: int | None = None,
    ) -> None:
        if not rows:
            raise InputError("batches: expected at least one recording, got none; check the split")
        self.rows = [row[: max_positions + 1] for row in rows]
        short = next((i for i, row in enumerate(rows) if len(row) < 2), None)
        if short is not None:
            raise InputError(
                f"recording {short}: expected two units or more, of which one is heard, got {len(rows[short])}; "
                "leave it out"
            )
        self.vocab, self.ratios, self.batch_tokens = vocab, tuple(ratios), batch_tokens
        self.seed, self.max_rows = seed, max_rows
        self._lengths = np.array([len(row) for row in self.rows], dtype=np.int64)

    def n_batches(self, epoch: int) -> int:
        """Batches of one shuffled epoch."""
        return len(self._plan(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ContinuationBatch]:
        """Training batches of one epoch from batch `start` on: the same after a resume as without one."""
        for number, index in enumerate(self._plan(epoch)):
            if number >= start:
                drawn = np.random.default_rng((self.seed, epoch, number, 1)).choice(self.ratios, len(index))
                rows = [self.rows[i] for i in index]
                given = [n_given(len(row), ratio) for row, ratio in zip(rows, drawn, strict=True)]
                yield collate_continuations(rows, given, self.vocab)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        return shuffled_plan(self._lengths, self.batch_tokens, (self.seed, epoch, 0), self.max_rows)


def n_given(n_units: int, ratio: float) -> int:
    """Units of a recording that are heard: at least one, and one is left."""
    return min(max(1, round(ratio * n_units)), n_units - 1)


def collate_continuations(
    rows: Sequence[np.ndarray], given: Sequence[int], vocab: UnitVocab
) -> ContinuationBatch:
    """Make one batch; given: units of each row that are heard, and not counted. Raises InputError: an unknown unit."""
    n_new = [len(row) - n for row, n in zip(rows, given, strict=True)]
    ids = np.full((len(rows), max(len(row) for row in rows)), vocab.pad, dtype=np.int64)
    read = np.zeros((len(rows), max(n_new)), dtype=np.int64)
    target = np.full_like(read, IGNORED)
    for i, (row, n) in enumerate(zip(rows, given, strict=True)):
        tokens = vocab.encode(row)
        ids[i, 0] = vocab.eos
        ids[i, 1 : len(row)] = tokens[:-1]  # column j is read for the unit after it, row[j]
        read[i] = n + np.minimum(np.arange(read.shape[1]), n_new[i] - 1)
        target[i, : n_new[i]] = tokens[n:]
    return ContinuationBatch(*(torch.from_numpy(array) for array in (ids, read, target)))


class ContinuationObjective(Objective):
    """Best is the lowest validation loss, over every share of the validation recordings that may be heard.

    Args: prompted: the model. train_rows, valid_rows: units. ratios: see ContinuationBatches. config: batches and label
    smoothing. Raises: InputError for rows that nothing can be heard and continued of.
    """

    module: PromptedContinuation

    def __init__(
        self,
        prompted: PromptedContinuation,
        train_rows: Sequence[np.ndarray],
        valid_rows: Sequence[np.ndarray],
        ratios: Sequence[float],
        config: TrainConfig,
    ) -> None:
        self.module, self.label_smoothing = prompted, config.label_smoothing
        self.batches = ContinuationBatches(
            train_rows,
            prompted.lm.vocab,
            ratios,
            batch_tokens=config.batch_tokens,
            max_positions=prompted.lm.max_positions,
            seed=config.seed,
            max_rows=config.batch_rows,
        )
        self.valid_rows = [row for row in valid_rows if len(row) > 1]
        if not self.valid_rows:
            raise InputError(
                f"continuation: expected validation recordings of two units or more, got {len(valid_rows)} shorter "
                "ones; add longer recordings"
            )
        self.ratios = tuple(ratios)
        self.data = rows_fingerprint([LabelledUnits(row) for row in (*train_rows, *valid_rows)])

    def loss(self, output: Tensor, batch: ContinuationBatch) -> Tensor:
        """Mean over the new units of a batch, from logits (B, R, V)."""
        return F.cross_entropy(
            output.float().flatten(0, 1),
            batch.target_BR.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )

    def validate(self, *, accelerator: Accelerator) -> Validation:
        """Loss and perplexity of what follows, each unit given the true ones before it; every process reads all."""
        training = self.module.training
        self.module.eval()
        prefix, loss, count = self.module.prefix(), 0.0, 0
        for ratio in self.ratios:
            losses_N, counts_N = sequence_losses(
                self.module.lm,
                self.valid_rows,
                given=[n_given(len(row), ratio) for row in self.valid_rows],
                end=False,
                prefix=prefix,
            )
            loss, count = loss + losses_N.sum(), count + int(counts_N.sum())
        self.module.train(training)
        mean = float(loss / count)
        return Validation({"loss": mean, "perplexity": math.exp(mean)}, (-mean,))

    def state(self) -> dict[str, Tensor]:
        """The prompt."""
        return self.module.trained_tensors()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Read what `state` gave. Raises InputError for other names or shapes."""
        self.module.load_trainable_state(state)
