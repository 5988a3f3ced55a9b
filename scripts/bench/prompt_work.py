"""Prompt-training steps and labelling: ours, the released semantics, and peft on transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from scripts.bench.alternating import Ways
from scripts.bench.machine import uses_bf16
from scripts.bench.opt_peer import PeftPrompts
from scripts.bench.plain_prompts import PlainPrompts
from speechprompt.batch import Batch, LabelledUnits, collate
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.rounded import rounded
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM, build_prompted
from speechprompt.train_config import TrainConfig

LENGTHS = (20, 50)  # units of a second of Google Speech Commands, deduplicated
N_LABELS = 12


def batch_of(lm: GSLM, n_rows: int, seed: int = 0, lengths: tuple[int, int] = LENGTHS) -> Batch:
    """Rows of random units with random labels.

    Args:
        lm: whose units.
        n_rows: of the batch.
        seed: of lengths, units and labels.
        lengths: units of the shortest row, and one more than of the longest.
    """
    draw = np.random.default_rng(seed)
    rows = [
        LabelledUnits(
            draw.integers(lm.vocab.n_units, size=draw.integers(*lengths)), int(draw.integers(N_LABELS))
        )
        for _ in range(n_rows)
    ]
    return collate(rows, np.arange(n_rows), lm.vocab).to(lm.device)


def prompted_pair(lm: GSLM) -> tuple[PromptedLM, PromptedLM]:
    """Prompts of length 5 without dropout: with a learned verbalizer of logits, and with tokens as labels.

    Args:
        lm: the language model.
    """
    learned = PromptConfig(
        length=5, verbalizer="learnable", read="logits", dropout=0.0, verbalizer_dropout=0.0
    )
    tokens = PromptConfig(length=5, verbalizer="random", dropout=0.0)
    return build_prompted(lm, N_LABELS, learned), build_prompted(lm, N_LABELS, tokens)


def step_of(model: Any, parameters: list[torch.nn.Parameter], batch: Batch) -> Callable[[], object]:
    """One whole optimizer step.

    Args:
        model: has `loss`.
        parameters: that are trained.
        batch: on which.
    """
    config = TrainConfig()
    optimizer = torch.optim.Adam(parameters, lr=config.lr, betas=config.betas)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()

    return step


def labels_of(model: Any, batch: Batch) -> Callable[[], object]:
    """The likeliest label of every row.

    Args:
        model: has `label_logits`.
        batch: whose rows.
    """

    def work() -> object:
        with torch.no_grad():
            return model.label_logits(batch).argmax(1)

    return work


def our_lm(lm: GSLM) -> GSLM:
    """What ours trains on, labels and generates with: rounded (`--precision bf16`) where the processor has bfloat16.

    Args:
        lm: the peers'; keeps its weights.
    """
    return rounded(lm) if uses_bf16(lm.device) else lm


def training(lm: GSLM, n_rows: int) -> Ways:
    """Prompt-training steps; ours as `train` does them, in bfloat16 where the processor has it.

    Args:
        lm: the language model; keeps its weights.
        n_rows: of the batch.
    """
    batch = batch_of(lm, n_rows)
    (ours, _), (learned, with_tokens) = prompted_pair(our_lm(lm)), prompted_pair(lm)
    plain, peft = PlainPrompts(learned), PeftPrompts(with_tokens)
    trained = [p for p in peft.model.parameters() if p.requires_grad]
    plain_trained = [p for p in plain.parameters() if p.requires_grad]
    return {
        "ours": step_of(ours.train(), ours.trainable_parameters(), batch),
        "released semantics": step_of(plain, plain_trained, batch),
        "transformers and peft": step_of(peft, trained, batch),
    }


def labelling(lm: GSLM, n_rows: int) -> Ways:
    """The labelling of a batch; ours as `predict --precision bf16` does it, where the processor has it.

    Args:
        lm: the language model.
        n_rows: of the batch.
    """
    batch = batch_of(lm, n_rows)
    (ours, _), (learned, with_tokens) = prompted_pair(our_lm(lm)), prompted_pair(lm)
    plain, peft = PlainPrompts(learned), PeftPrompts(with_tokens)
    return {
        "ours": labels_of(ours.eval(), batch),
        "the release, row by row": lambda: plain.labels_row_by_row(batch),
        "released semantics": labels_of(plain, batch),
        "transformers and peft": labels_of(peft, batch),
    }
