"""The whole way on bundled speech: train a prompt, measure it beside baselines, resynthesize, continue, report."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np

from speechprompt.batch import LabelledUnits
from speechprompt.decode import SamplingConfig
from speechprompt.evaluation import evaluate, predict
from speechprompt.generate.continuation import continue_speech
from speechprompt.methods.majority import majority_predictions
from speechprompt.methods.ngram import NgramChoice, fit_and_predict
from speechprompt.prompt_config import PromptConfig
from speechprompt.quickstart_report import build_report
from speechprompt.quickstart_result import QuickstartResult
from speechprompt.report import write_report
from speechprompt.run_record import RunExistsError
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import labelled_units
from speechprompt.train_config import TrainConfig
from speechprompt.training import train
from speechprompt.views import offset_views
from tasks.base import Task
from tasks.metrics import ClassificationReport, classification_report
from tasks.registry import get_task
from tasks.spoken_digits import READ_SENTENCE
from tasks.unit_error_rate import unit_error_rate
from units.atomic import atomic_dir, atomic_path
from units.audio import write_audio

TASK = "spoken_digits"
PROMPT = PromptConfig(length=5)
# Six speakers who are in every split: no need to train at other speeds. Four passes over four views of every clip are
# what the five minutes for the whole allow.
TRAINING = TrainConfig(speed_perturbation=(), offset_perturbation=4, unit_dropout=0.05, max_epochs=4)
N_CLIPS = 3
SEED_S, LENGTH_S, TEMPERATURE = 3.0, 4.0, 0.7
METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"


def quickstart(
    out: str | Path,
    stack: Stack | str | Path = "mini",
    *,
    seed: int = 0,
    config: TrainConfig = TRAINING,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a deep prompt on the bundled digits, compare, listen, and write `out`.

    out: folder to make: metrics.json, report.html, run/ and the sounds. It appears complete or not at all; an earlier
    quickstart's, or an empty folder, is replaced. stack: a Stack, or its name or folder. config: of the training; its
    seed is replaced by `seed`. progress: say what is going on, on a terminal.

    Returns: the content of metrics.json.
    Raises: RunExistsError: `out` holds something else; StackError, UnitSpecMismatch: see `load_stack`.
    """
    started = monotonic()
    out = Path(out)
    with _replacing(out) as folder:
        result = _run_all(
            folder,
            load_stack(stack) if not isinstance(stack, Stack) else stack,
            seed,
            config,
            progress,
            started,
        )
        _tell(progress, "drawing the report")
        write_report(folder / REPORT_FILE, build_report(result, str(out)))
        metrics = result.metrics()
        with atomic_path(folder / METRICS_FILE) as temporary:
            temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def _run_all(
    folder: Path, stack: Stack, seed: int, config: TrainConfig, progress: bool, started: float
) -> QuickstartResult:
    task = get_task(TASK)
    _tell(progress, "training a prompt on the bundled digits")
    run = train(
        task, stack, folder / "run", prompt_config=PROMPT, seed=seed, config=config, progress=progress
    )
    _tell(progress, "measuring it and its baselines on held-out clips")
    test = cast("ClassificationReport", evaluate(run, "test", task=task, progress=progress))
    majority, ngram, choice = _baselines(task, stack, config, seed)

    _tell(progress, "listening, speaking, going on")
    chosen = np.random.default_rng(seed).choice(len(task.utterances("test")), size=N_CLIPS, replace=False)
    clips = [task.utterances("test")[i] for i in sorted(chosen)]
    clip_waves = [stack.read(clip.path) for clip in clips if clip.path is not None]
    for number, wave in enumerate(clip_waves, 1):
        write_audio(folder / f"clip_{number}.wav", wave, stack.quantizer.sample_rate)
    clip_files = [folder / f"clip_{number}.wav" for number in range(1, N_CLIPS + 1)]
    clip_waves = [stack.read(file) for file in clip_files]  # as anyone will hear them who repeats this

    sentence = stack.read(READ_SENTENCE)
    write_audio(folder / "sentence.wav", sentence, stack.quantizer.sample_rate)
    [sentence_units] = stack.quantize(sentence)
    spoken = stack.vocoder(sentence_units)
    write_audio(folder / "resynthesized.wav", spoken, stack.vocoder.sample_rate)
    [spoken_units] = stack.quantize(folder / "resynthesized.wav")
    continuations = [
        continue_speech(
            stack,
            folder / "sentence.wav",
            seed_s=SEED_S,
            length_s=LENGTH_S,
            sampling=SamplingConfig(temperature=TEMPERATURE, seed=seed + i),
        )
        for i in range(2)
    ]
    for number, continuation in enumerate(continuations, 1):
        write_audio(folder / f"continuation_{number}.wav", continuation.wave, continuation.sample_rate)
    return QuickstartResult(
        run=run,
        task=task,
        test=test,
        majority=majority,
        ngram=ngram,
        ngram_choice=choice,
        clips=clips,
        clip_waves=clip_waves,
        clip_units=stack.quantize(clip_waves),
        predictions=predict(run, clip_files),
        sentence=sentence,
        sentence_units=sentence_units,
        spoken=spoken,
        spoken_units=spoken_units,
        unit_error_rate=unit_error_rate(spoken_units, sentence_units),
        continuations=continuations,
        seed_s=SEED_S,
        length_s=LENGTH_S,
        temperature=TEMPERATURE,
        seed=seed,
        seconds=monotonic() - started,
    )


def _baselines(
    task: Task, stack: Stack, config: TrainConfig, seed: int
) -> tuple[ClassificationReport, ClassificationReport, NgramChoice]:
    """Measure the majority class and n-gram counts on the units that the prompt was trained and tested on."""
    train_rows, valid_rows, test_rows = (
        _named(labelled_units(task, split, stack, views=offset_views(n_offsets), prosody=False), task)
        for split, n_offsets in (
            ("train", config.offset_perturbation),
            ("valid", PROMPT.n_offsets),
            ("test", PROMPT.n_offsets),
        )
    )
    targets = [utterance.target for utterance in task.utterances("test")]
    majority = majority_predictions([label for _, label in train_rows], len(targets))
    ngram, choice = fit_and_predict(
        train_rows,
        [units for units, _ in test_rows],
        valid=valid_rows,
        seed=seed,
        n_views=PROMPT.n_offsets,
    )
    return (
        classification_report(targets, majority, task.labels),
        classification_report(targets, ngram, task.labels),
        choice,
    )


def _named(rows: list[LabelledUnits], task: Task) -> list[tuple[np.ndarray, str]]:
    return [(row.units, task.labels[row.label]) for row in rows]


def _tell(progress: bool, what: str) -> None:
    if progress and sys.stderr.isatty():
        print(what, file=sys.stderr)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `out` once the block ends well; what was there before then goes.

    Raises RunExistsError where `out` is neither free, nor empty, nor an earlier quickstart's.
    """
    if not (out.exists() or out.is_symlink()):
        with atomic_dir(out) as folder:
            yield folder
        return
    earlier = out.is_dir() and all((out / name).is_file() for name in (METRICS_FILE, REPORT_FILE))
    if not earlier and not (out.is_dir() and not any(out.iterdir())):
        raise RunExistsError(
            f"{out}: expected no such folder, an empty one or an earlier quickstart's, got something else; "
            "choose another --out"
        )
    with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".tmp-") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        try:
            with atomic_dir(new) as folder:
                yield folder
        except OSError as error:  # a full disk, say: tell it by the name that the user gave
            if error.filename == str(new):
                error.filename = str(out)
            raise
        out.resolve().rename(old)
        new.rename(out.resolve())
