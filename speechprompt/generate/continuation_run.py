"""From recordings and a stack to a prompt that continues speech, and its run folder opened again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from speechprompt.checkpoint import begin_run, load_prompt, require_free
from speechprompt.generate.pair_training import TRAINING, generation_record
from speechprompt.generate.prompted_continuation import ContinuationObjective, PromptedContinuation, n_given
from speechprompt.lm.base import UnitLM
from speechprompt.lm.pgslm import PGSLM
from speechprompt.opened_run import OpenedRun
from speechprompt.perplexity import perplexity_measures
from speechprompt.prompt import make_prompt
from speechprompt.run import stack_of_run
from speechprompt.run_record import RunError, read_record, record_metrics
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import one_process_first, quantize_utterances
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from tasks.base import Task
from tasks.registry import get_task
from units.errors import InputError

TASK = "continuation"
RATIOS = (0.25, 0.5, 0.75)  # SpeechGen's


@dataclass(frozen=True)
class ContinuationConfig:
    """What is trained, and how much of a recording is heard.

    length: positions of the deep prompt. dropout: on its vectors, in training. seed: of its first values.
    seed_ratios: shares of a recording that are heard; in training one is drawn each time, else all count alike.
    Raises InputError for shares outside (0, 1), or none.
    """

    length: int = 20
    dropout: float = 0.1
    seed: int = 0
    seed_ratios: tuple[float, ...] = RATIOS

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed_ratios", tuple(self.seed_ratios))
        if not self.seed_ratios or not all(0 < ratio < 1 for ratio in self.seed_ratios):
            raise InputError(
                f"seed_ratios: expected shares between 0 and 1, got {self.seed_ratios}; 0.5 hears half"
            )


@dataclass(frozen=True, eq=False)
class ContinuationRun(OpenedRun):
    """What `train_continuation` gives and `load_continuation_run` opens.

    stack: with the language model it steers. prompted: in evaluation mode, with the best epoch's weights;
    `prompted.prefix()` is what `continue_speech` takes. config: what was trained.
    """

    prompted: PromptedContinuation
    config: ContinuationConfig


def train_continuation(
    task: Task | str = TASK,
    stack: Stack | str | Path = "mini",
    out: str | Path = "run",
    *,
    data: str | Path | None = None,
    config: ContinuationConfig | None = None,
    training: TrainConfig | None = None,
    seed: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> ContinuationRun:
    """Train a deep prompt to go on as recordings do, or continue where that was interrupted.

    task: of kind "generation", or the name of one, whose recordings lie in `data`. stack: with a decoder-only LM of
    units. out: the run folder to make; an unfinished run of the same settings is continued to the bit.
    config, training: None for their defaults and `TRAINING`. seed: replaces the seeds of both.
    Returns: the finished run, with the best epoch's weights. Raises: as `training.train`; InputError: another LM.
    """
    require_free(out)
    config, training = config or ContinuationConfig(), training or TRAINING
    if seed is not None:
        config, training = replace(config, seed=seed), replace(training, seed=seed)
    task = get_task(task, data) if isinstance(task, str) else task
    stack = stack if isinstance(stack, Stack) else load_stack(stack, device)
    prompted = _prompted(stack, config)
    with one_process_first(stack):  # the others then find the units in the cache
        train_rows, valid_rows = (
            quantize_utterances(task.utterances(split), stack, progress=progress)
            for split in ("train", "valid")
        )
    objective = ContinuationObjective(prompted, train_rows, valid_rows, config.seed_ratios, training)
    prompt = asdict(config)
    generation = {"seed_ratios": prompt.pop("seed_ratios")}
    record = generation_record(
        task,
        stack,
        prompted,
        lm_fingerprint=stack.lm_fingerprint,
        prompt=prompt,
        generation=generation,
        training=training,
    )
    with one_process_first(stack):  # the others then find the run begun
        begin_run(out, record)
    train_module(objective, training, out, progress=progress)
    return ContinuationRun(Path(out), read_record(out), stack, prompted, config)


def load_continuation_run(
    folder: str | Path,
    *,
    stack: Stack | str | Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> ContinuationRun:
    """Open a run, finished or not (then with the best prompt so far). Arguments, errors: as `load_run`."""
    folder = Path(folder)
    record = read_record(folder)
    if record.task != TASK or "seed_ratios" not in record.generation:
        raise RunError(
            f"{folder}: expected a run of the task {TASK}, got one of {record.task}; give another, or train one"
        )
    opened = stack_of_run(folder, record, stack, device, precision)
    config = ContinuationConfig(**dict(record.prompt), **dict(record.generation))
    prompted = _prompted(opened, config)
    prompted.load_trainable_state(load_prompt(folder, opened.lm_fingerprint))
    return ContinuationRun(folder, record, opened, prompted.eval(), config)


def evaluate_continuation(
    run: ContinuationRun | str | Path,
    split: str = "test",
    *,
    data: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """How likely the run finds what really follows, beside the language model without it; noted in its `run.json`.

    data: None for what it was trained on. Returns, by share of the recording that is heard ("seed_0.5"): `perplexity`
    of the units after it with the prompt and `plain_perplexity` without, each with its 95% bootstrap interval over
    recordings; and n. Raises InputError: an unknown split, or one whose recordings have a single unit each;
    AudioError: recordings that cannot be used.
    """
    run = run if isinstance(run, ContinuationRun) else load_continuation_run(run, device=device)
    task = get_task(run.record.task, data if data is not None else run.record.data)
    rows = quantize_utterances(task.utterances(split), run.stack, progress=progress)
    rows = [row for row in rows if len(row) > 1]
    prefix = run.prompted.prefix()
    measured: dict[str, Any] = {"n": len(rows)}
    for ratio in run.config.seed_ratios:
        given = [n_given(len(row), ratio) for row in rows]
        with_prompt, plain = (
            perplexity_measures(run.stack.lm, rows, given=given, prefix=steered) for steered in (prefix, None)
        )
        measured[f"seed_{ratio:g}"] = {
            **with_prompt,
            **{f"plain_{name}": value for name, value in plain.items()},
        }
    record_metrics(run.folder, split, measured)
    return measured


def _prompted(stack: Stack, config: ContinuationConfig) -> PromptedContinuation:
    lm = stack.lm
    if not isinstance(lm, UnitLM) or isinstance(lm, PGSLM):
        raise InputError(
            f"stack {stack.name}: expected a language model that reads units alone, from left to right, to be "
            f"prompted for continuation, got the family {stack.lm_part['family']}; use another stack"
        )
    prompt = make_prompt("deep", config.length, lm, seed=config.seed, dropout=config.dropout)
    return PromptedContinuation(lm, prompt).to(lm.device)
