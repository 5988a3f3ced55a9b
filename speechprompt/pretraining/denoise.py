"""Unit mBART's objective: restore documents whose sentences were permuted and whose spans were masked.

Shapes: B rows, S source tokens, T target tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.batch import bucket
from speechprompt.lm.denoising import (
    DenoisingBatch,
    DenoisingConfig,
    Row,
    damaged,
    denoising_batch,
    document_target,
    permuted,
)
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.perplexity import unigram_perplexity
from speechprompt.pretraining.config import PretrainConfig
from speechprompt.pretraining.objective import Objective, fingerprint
from speechprompt.vocab import MBartVocab
from units.errors import InputError
from units.types import UnitSpec

Sentence = np.ndarray  # unit numbers (T,) int64 of one utterance


class Denoise(Objective[UnitMBart, DenoisingBatch]):
    """Documents of one to `n_sentences` utterances that follow each other, cut anew in every epoch.

    Args:
        mbart: dimensions and dropout.
        vocab: token inventory.
        groups: training utterances; a document never joins two groups (speakers, say).
        config: of the training; `p_drop` and `p_replace` stay 0, as the damage is the noise.
        language: the tag of all rows.
        noise: how rows are damaged.
        n_sentences: most utterances in a document; 1 for no permutation.
        valid: utterances to check on, each by itself, always with the same damage.
        spec: of the units, None where it is not known.
    Raises: InputError for unknown units, an unknown language, or options that do not fit.
    """

    def __init__(
        self,
        mbart: MBartConfig,
        vocab: MBartVocab,
        groups: Sequence[Sequence[Sentence]],
        config: PretrainConfig,
        *,
        language: str,
        noise: DenoisingConfig | None = None,
        n_sentences: int = 3,
        valid: Sequence[Sentence] = (),
        spec: UnitSpec | None = None,
    ) -> None:
        if config.p_drop or config.p_replace:
            raise InputError(
                "unit mBART: expected p_drop and p_replace of 0, got others; its rows are damaged by its own noise"
            )
        if n_sentences < 1:
            raise InputError(f"unit mBART: expected documents of at least 1 utterance, got {n_sentences}")
        self.mbart, self.vocab, self.config, self.spec = mbart, vocab, config, spec
        self.language, self.noise, self.n_sentences = language, noise or DenoisingConfig(), n_sentences
        n_positions = min(mbart.encoder.max_positions, mbart.decoder.max_positions)
        self.max_units = self.noise.longest_target(n_positions) - 3  # `<s>`, one `</s>`, and the tag
        self.groups = [_pieces(group, self.max_units) for group in groups]
        self.valid = _pieces(valid, self.max_units)
        self._documents: tuple[int, list[Row]] = (-1, [])
        self.settings: dict[str, Any] = {
            "lm": "unit-mbart",
            "mbart": mbart.to_dict(),
            "language": language,
            "noise": asdict(self.noise),
            "n_sentences": n_sentences,
            "rows": fingerprint(sentence for group in self.groups for sentence in group),
        }

    def new_model(self, seed: int) -> UnitMBart:
        """See Objective."""
        return UnitMBart(self.mbart, self.vocab).initialise(seed)

    def load(self, folder: Path, device: str) -> UnitMBart:
        """See Objective."""
        return UnitMBart.load(folder, device=device)

    def documents(self, epoch: int) -> list[Row]:
        """An epoch's target rows, in the order of the utterances."""
        if self._documents[0] != epoch:
            rng = np.random.default_rng((self.config.seed, epoch, 2))
            self._documents = (epoch, [row for group in self.groups for row in self._cut(group, rng)])
        return self._documents[1]

    def _cut(self, group: Sequence[Sentence], rng: np.random.Generator) -> list[Row]:
        rows, start = [], 0
        while start < len(group):
            stop = start + 1
            n_units = len(group[start])
            wanted = start + int(rng.integers(1, self.n_sentences + 1))
            while stop < min(wanted, len(group)) and n_units + 1 + len(group[stop]) <= self.max_units:
                n_units += 1 + len(group[stop])
                stop += 1
            rows.append(document_target(group[start:stop], self.language, self.vocab))
            start = stop
        return rows

    def lengths(self, epoch: int) -> np.ndarray:
        """See Objective."""
        return np.array([len(row) for row in self.documents(epoch)])

    def batch(self, index: np.ndarray, epoch: int, number: int) -> DenoisingBatch:
        """See Objective."""
        documents = self.documents(epoch)
        noise = self.noise_at(epoch, number)
        return self._damaged([documents[i] for i in index], noise, (self.config.seed, epoch, number, 1))

    def noise_at(self, epoch: int, number: int) -> DenoisingConfig:
        """How the rows of an epoch's batch are damaged in training: as all are."""
        return self.noise

    def _damaged(
        self, targets: Sequence[Row], noise: DenoisingConfig, seed: tuple[int, ...]
    ) -> DenoisingBatch:
        rng = np.random.default_rng(seed)
        sources = [damaged(permuted(row, self.vocab, noise, rng), self.vocab, noise, rng) for row in targets]
        return denoising_batch(sources, targets, self.vocab)

    def loss(self, model: UnitMBart, batch: DenoisingBatch) -> Tensor:
        """See Objective."""
        return (
            self._summed(model, batch, self.config.label_smoothing) / batch.target_BT.ne(self.vocab.pad).sum()
        )

    def _summed(self, model: UnitMBart, batch: DenoisingBatch, label_smoothing: float = 0.0) -> Tensor:
        logits_BTV = model(batch.source_BS.to(model.device), batch.previous_BT.to(model.device)).float()
        return F.cross_entropy(
            logits_BTV.flatten(0, 1),
            batch.target_BT.to(model.device).flatten(),
            ignore_index=self.vocab.pad,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    @torch.no_grad()
    def measure(self, model: UnitMBart) -> dict[str, float]:
        """Perplexity per token of restored utterances, `<s>`, `</s>` and the tag counted."""
        rows = sorted((document_target([units], self.language, self.vocab) for units in self.valid), key=len)
        training = model.training
        model.eval()
        total, count = 0.0, 0
        for number, run in enumerate(bucket(np.array([len(row) for row in rows]), self.config.batch_tokens)):
            batch = self._damaged([rows[i] for i in run], self.noise, (number, 3))
            total += float(self._summed(model, batch))
            count += int(batch.target_BT.ne(self.vocab.pad).sum())
        model.train(training)
        return {"valid_perplexity": math.exp(total / count) if count else math.nan}

    def unigram_perplexity(self) -> float:
        """See Objective."""
        sentences = [sentence for group in self.groups for sentence in group]
        return unigram_perplexity(sentences, self.valid, self.vocab, self.max_units)


def _pieces(sentences: Sequence[Sentence], max_units: int) -> list[Sentence]:
    """Utterances, longer ones cut into pieces; empty ones are left out."""
    return [
        units[start : start + max_units].astype(np.int64)
        for units in sentences
        for start in range(0, len(units), max_units)
    ]
