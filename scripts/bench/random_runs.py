"""Runs that were never trained, on a stack's language model: as fast to answer for as trained ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechprompt.checkpoint import begin_run, finish_run, save_prompt
from speechprompt.classifier import build_classifier
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM
from speechprompt.run_record import RunRecord
from speechprompt.sequence.prompted import build_sequence
from speechprompt.stack import Stack

_SHARPER = (
    30.0  # times the weights of a learnable verbalizer, whose first labels are all about equally likely
)


def write_random_run(
    folder: Path, stack: Stack, labels: Sequence[str], config: PromptConfig, *, spells: bool = False
) -> Path:
    """Make the folder of a finished run with a prompt as it is before training.

    Args:
        folder: made here.
        stack: whose language model it prompts.
        labels: of the task that it pretends to know.
        config: its prompt; equal seeds give equal prompts.
        spells: whether the labels are characters that it spells texts with.
    """
    counts = np.ones(stack.spec.n_units, dtype=np.int64)
    if spells:
        prompted: PromptedLM = build_sequence(stack.lm, len(labels), config, unit_counts=counts)
    else:
        prompted = build_classifier(stack.lm, labels, config, unit_counts=counts)
    state = prompted.trainable_state()
    if "verbalizer.weight" in state:
        state["verbalizer.weight"] *= _SHARPER
    record = RunRecord(
        task="csv_classification",
        data=None,
        labels=() if spells else tuple(labels),
        stack=stack.source,
        spec=stack.spec,
        lm_fingerprint=stack.lm_fingerprint,
        prompt=dataclasses.asdict(config),
        training={},
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
        symbols=tuple(labels) if spells else (),
        longest_target=4 if spells else 0,
    )
    begin_run(folder, record)
    save_prompt(folder, state, record)
    finish_run(folder, {})
    return folder
