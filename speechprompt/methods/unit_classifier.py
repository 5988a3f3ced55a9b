"""What the methods on the unit LM share: rows of units in, a trained PromptedLM, labels or texts out.

They differ in whose language model they train on and which of its weights train with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from accelerate import PartialState

from speechprompt.batch import BucketedBatches
from speechprompt.checkpoint import begin_run, load_prompt
from speechprompt.label_logits import label_logits
from speechprompt.lm.base import UnitLM
from speechprompt.methods.base import Job, MethodError, Outcome
from speechprompt.objective import Objective
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM
from speechprompt.run_record import RunRecord, read_record
from speechprompt.sequence.decoding import DecodingConfig, decode_rows
from speechprompt.sequence.objective import SequenceObjective
from speechprompt.sequence.prompted import PromptedSequence
from speechprompt.sequence.symbols import SymbolInventory
from speechprompt.task_units import labelled_units, quantize_utterances, views_of
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective
from speechprompt.trainer import train_module
from speechprompt.training import new_record, prepare
from speechprompt.training_log import read_log
from speechprompt.views import mean_over_views

_BATCH_TOKENS = 8192
Adapt = Callable[[LabelObjective | SequenceObjective], None]


def tune_on_units(
    job: Job,
    method: str,
    lm: UnitLM,
    prompt: PromptConfig,
    config: TrainConfig,
    decoding: DecodingConfig,
    *,
    more_settings: Mapping[str, Any] | None = None,
    adapt: Adapt | None = None,
) -> Outcome:
    """Train a model on units and judge every split that is not trained on: labels with scores, or texts.

    lm: the stack's, or a copy of it, with the stack's values. decoding: of a sequence task's texts. more_settings: of
    the method, for the run's record. adapt: is given the new model's objective, and lets weights of the language model
    train.
    """
    if job.task.kind == "generation":
        raise MethodError(
            f"{method}: expected a classification or sequence task, got {job.task.name} of kind generation; "
            "choose another task"
        )
    prepared = prepare(job.task, job.stack, lm, prompt, config, progress=job.progress)
    model = prepared.objective.module
    if adapt is not None:
        adapt(prepared.objective)
    settings = {**prompt.to_dict(), **(more_settings or {})}
    data = None if job.task.root is None else str(job.task.root.resolve())
    record = new_record(job.task, job.stack, prepared, settings, config, data=data, method=method)
    history = train_or_read(job, prepared.objective, config, record)
    done: dict[str, Any] = {
        "trainable_parameters": model.n_trainable,
        "seconds": history[-1]["seconds"],
        "history": history,
    }
    if isinstance(model, PromptedSequence):
        texts = {split: _texts(job, split, model, record, decoding) for split in job.judged_splits}
        return Outcome(texts, {}, **done)
    scores = {split: _scores(job, split, model, prompt.n_offsets) for split in job.judged_splits}
    return Outcome.of_scores(job, scores, **done)


def train_or_read(
    job: Job, objective: Objective, config: TrainConfig, record: RunRecord
) -> list[dict[str, float]]:
    """Train in the job's folder, continue a killed training there, or read what a finished one left there.

    Returns the history. Raises RunExistsError: the folder holds a run of other settings, or something else.
    """
    processes = PartialState(cpu=objective.device.type == "cpu")
    with processes.main_process_first():  # the others then find the run begun
        begin_run(job.folder, record, finished=True)
    if read_record(job.folder).status == "unfinished":
        return train_module(objective, config, job.folder, progress=job.progress)
    objective.load_state(load_prompt(job.folder, record.lm_fingerprint))
    objective.module.eval()
    return read_log(job.folder)


def _scores(job: Job, split: str, prompted: PromptedLM, n_offsets: int) -> np.ndarray:
    views = views_of(job.task.utterances(split), n_offsets)
    rows = labelled_units(job.task, split, job.stack, views=views)
    batches = BucketedBatches(
        rows, prompted.lm.vocab, batch_tokens=_BATCH_TOKENS, max_positions=prompted.max_tokens
    )
    scores_NC: np.ndarray = mean_over_views(label_logits(prompted, batches), len(views)).numpy()
    return scores_NC


def _texts(
    job: Job, split: str, sequence: PromptedSequence, record: RunRecord, decoding: DecodingConfig
) -> list[str]:
    inventory = SymbolInventory(record.symbols, record.tokens)
    units = quantize_utterances(job.task.utterances(split), job.stack)
    found = decode_rows(sequence, units, decoding, longest_target=record.longest_target)
    return [inventory.decode(hypotheses[0].ids[:-1]) for hypotheses in found]
