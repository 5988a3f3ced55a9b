"""A run, opened: its record, the stack it was trained on, and the trained classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from speechprompt.checkpoint import load_prompt
from speechprompt.classifier import restore_classifier
from speechprompt.lm.base import UnitLM
from speechprompt.opened_run import OpenedRun
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM
from speechprompt.run_record import RunError, RunRecord, read_record
from speechprompt.sequence.prompted import restore_sequence
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack


@dataclass(frozen=True, eq=False)
class Run(OpenedRun):
    """What `train` gives and `load_run` opens; stack: with encoder, codebook and LM.

    prompted: the classifier, or the model of a sequence task, in evaluation mode, with the best epoch's weights.
    """

    prompted: PromptedLM

    @property
    def n_offsets(self) -> int:
        """How often a recording is quantized to be understood; a text is said of one reading."""
        return 1 if self.record.symbols else PromptConfig.from_dict(self.record.prompt).n_offsets


def load_run(
    folder: str | Path,
    *,
    stack: Stack | str | Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> Run:
    """Open a run, finished or not (then with the best prompt so far).

    stack: None for the one the run names; give it where that one has moved. device, precision: see `load_stack`; used
    where the stack is loaded.
    Raises: RunError: no run, one of another method, no prompt yet, or a prompt trained for another language model;
    StackError: its stack is gone; UnitSpecMismatch: a stack of another unit inventory.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record.generation:
        raise RunError(
            f"{folder}: expected a run that labels or writes down speech, got one of {record.task}, which generates "
            f"speech; use load_{record.task}_run"
        )
    if record.method != "prompt":
        raise RunError(
            f"{folder}: expected the run of a prompt, got one of method {record.method}; repeat it with run_method"
        )
    opened = stack_of_run(folder, record, stack, device, precision)
    tensors = load_prompt(folder, opened.lm_fingerprint)
    return Run(folder, record, opened, restore(record, opened.lm, tensors))


def stack_of_run(
    folder: Path,
    record: RunRecord,
    stack: Stack | str | Path | None,
    device: str,
    precision: str = "float32",
) -> Stack:
    """The stack that a run was trained on; arguments and errors as `load_run`."""
    if not isinstance(stack, Stack):
        stack = load_stack(record.stack if stack is None else stack, device, precision=precision)
    record.spec.require_equal(stack.spec, f"run {folder}", f"stack {stack.name}")
    fingerprint = stack.lm_fingerprint
    if fingerprint != record.lm_fingerprint:
        raise RunError(
            f"{folder}: expected the language model {record.lm_fingerprint[:12]} it was trained on, got "
            f"{fingerprint[:12]} in stack {stack.name}; use the stack it was trained with"
        )
    return stack


def restore(record: RunRecord, lm: UnitLM, tensors: Mapping[str, Tensor]) -> PromptedLM:
    """The trained model that a record describes, in evaluation mode; freezes `lm`. Raises: InputError."""
    config = PromptConfig.from_dict(record.prompt)
    if record.symbols:
        return restore_sequence(lm, len(record.symbols), config, tensors)
    return restore_classifier(lm, record.labels, config, tensors)
