"""A run of inpainting measured on a split, alone or beside what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.generate.damaged import Damaged, damaged_wave
from speechprompt.generate.inpainting import heard_units, own_voice, spoken_gaps
from speechprompt.generate.inpainting_run import InpaintingRun, load_inpainting_run, plain_inpainter
from speechprompt.generate.inpainting_training import HELD_OUT_VERSION, damaged
from speechprompt.generate.measured_gaps import Fill, SpokenPair, distance_measures, unit_measures
from speechprompt.generate.nearest import NearestFill
from speechprompt.judge import Judge
from speechprompt.judge.text_errors import text_error_measures
from speechprompt.run_record import record_metrics
from speechprompt.seq2seq.decoding import WritingConfig
from speechprompt.task_units import path_of
from tasks.base import Task, Utterance
from tasks.registry import get_task
from units.audio import read_audio
from units.errors import InputError
from units.types import Wave

Keep = Callable[[str, str, Wave, int], None]  # method, utterance, wave, sample rate
Measured = Callable[[str, dict[str, Any]], None]
CEILING = "resynthesized"
ORIGINAL = "original"
METHODS = ("corrupted", "nearest", "plain", "masked", "prompt", CEILING, ORIGINAL)
FINETUNE = "finetune"  # of a run that need not be there


def evaluate_inpainting(
    run: InpaintingRun | str | Path,
    split: str = "test",
    *,
    task: Task | None = None,
    data: str | Path | None = None,
    writing: WritingConfig | None = None,
    audio: bool = True,
    judge: Judge | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a run on a split of its recordings, and note the metrics in its `run.json`.

    task, data: None for what the run was trained on. writing: how units are chosen; None for greedily. audio: also
    speak the gaps and measure mel-cepstral distances and F0 errors, where the stack has a vocoder.
    judge: writes down what is then heard, for word and character error rates; against the texts of the recordings
    (their label in the CSV), where all have one, otherwise against what it hears in the undamaged ones.
    Returns: see `unit_measures`, `distance_measures`, `text_error_measures`. Raises: as `compare`.
    """
    run = run if isinstance(run, InpaintingRun) else load_inpainting_run(run, device=device)
    given = {
        "task": task,
        "data": data,
        "writing": writing,
        "audio": audio,
        "judge": judge,
        "progress": progress,
    }
    measures = compare(run, split, ["prompt"], **given)["prompt"]  # type: ignore[arg-type]
    record_metrics(run.folder, split, measures)
    return measures


def compare(
    run: InpaintingRun,
    split: str,
    methods: Sequence[str] = METHODS,
    *,
    finetuned: InpaintingRun | None = None,
    task: Task | None = None,
    data: str | Path | None = None,
    writing: WritingConfig | None = None,
    audio: bool = True,
    judge: Judge | None = None,
    keep: Keep | None = None,
    measured_one: Measured | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Measures by method, all on the same gaps.

    methods: "corrupted", what is heard of the damaged recordings; "nearest", see NearestFill; "plain", the language
    model without a prompt, shown what is heard in the gaps; "masked", the same with masks there, as in its
    pretraining; "prompt", the run; "finetune", the run `finetuned`, see `finetune_as`; "resynthesized", the clean
    units, which no filling can beat; "original", the recording before the damage: what the judge itself gets wrong.
    keep: is given every spoken recording. measured_one: is given each method's name and measures as soon as it has
    them. Other arguments as `evaluate_inpainting`.
    Raises InputError: an unknown method or split, a split without recordings, a judge without audio, a finetuned run of
    other gaps; AudioError: recordings that cannot be used.
    """
    known = METHODS if finetuned is None else (*METHODS, FINETUNE)
    unknown = sorted(set(methods) - set(known))
    if unknown:
        raise InputError(f"method: expected one of {', '.join(known)}, got {unknown[0]!r}; choose another")
    if finetuned is not None and finetuned.config.corruption != run.config.corruption:
        raise InputError(
            f"{finetuned.folder}: expected a run trained on the gaps of {run.folder}, got "
            f"{finetuned.config.corruption}; train it with the same settings"
        )
    task = task or get_task(run.record.task, data if data is not None else run.record.data)
    rows = damaged(task, split, run.stack, run.config, progress=progress)
    if not rows:
        raise InputError(f"{split}: expected recordings, got none; choose another split")
    speaks = audio and run.stack.vocoder_part is not None
    if judge is not None and not speaks:
        raise InputError(
            "judge: expected spoken recordings, got units alone; measure audio, by a stack that speaks"
        )
    utterances, rate = task.utterances(split), run.stack.quantizer.sample_rate
    voices: dict[str, str | None] = {}  # by recording: the same for all methods
    kind, references = ("", []) if judge is None else _references(judge, utterances, rate)
    measured = {}
    for name in methods:
        trained = finetuned if name == FINETUNE and finetuned is not None else run
        filled = _fill(name, trained, task, writing, progress)(rows)
        measured[name] = unit_measures(rows, filled)
        if speaks:
            heard: list[str] = []
            pairs = _spoken(name, run, utterances, rows, filled, keep, voices)
            measured[name] |= distance_measures(_listened(pairs, judge, rate, heard), rate)
            if judge is not None:
                measured[name] |= text_error_measures(references, heard, judge=judge.name, reference=kind)
        if measured_one is not None:
            measured_one(name, measured[name])
    return measured


def _references(judge: Judge, utterances: Sequence[Utterance], rate: int) -> tuple[str, list[str]]:
    """What the recordings say, and whether that is their "text", or what the judge hears in the "clean" ones."""
    if all(utterance.target for utterance in utterances):
        return "text", [utterance.target for utterance in utterances]
    return "clean", [judge([_clean(utterance, rate)], rate)[0] for utterance in utterances]


def _listened(
    pairs: Iterator[SpokenPair], judge: Judge | None, rate: int, heard: list[str]
) -> Iterator[SpokenPair]:
    """Pass pairs on, and note what the judge hears in the mended ones."""
    for pair in pairs:
        if judge is not None:
            heard += judge([pair.mended], rate)
        yield pair


def _fill(name: str, run: InpaintingRun, task: Task, writing: WritingConfig | None, progress: bool) -> Fill:
    """What fills gaps under this name."""
    if name == "corrupted":
        return lambda rows: [row.heard for row in rows]
    if name in (CEILING, ORIGINAL):
        return lambda rows: [row.clean for row in rows]
    if name == "nearest":
        known = damaged(task, "train", run.stack, run.config, 0, progress=progress)
        return NearestFill([row.clean for row in known], guard=run.config.guard)
    if name in ("prompt", FINETUNE):
        return run.inpainter(writing)
    config = replace(run.config, masked=name == "masked")
    return plain_inpainter(run.stack, config, writing)


def _spoken(
    name: str,
    run: InpaintingRun,
    utterances: Sequence[Utterance],
    rows: Sequence[Damaged],
    filled: Sequence[np.ndarray],
    keep: Keep | None,
    voices: dict[str, str | None],
) -> Iterator[SpokenPair]:
    """Each recording as it was, and with its gaps spoken; of what is only heard damaged, the damaged wave."""
    rate, corruption = run.stack.quantizer.sample_rate, run.config.corruption
    for utterance, row, frames_F in zip(utterances, rows, filled, strict=True):
        clean = _clean(utterance, rate)
        wave, _ = damaged_wave(clean, utterance.id, rate, corruption, HELD_OUT_VERSION)
        mended = clean if name == ORIGINAL else wave
        if name not in ("corrupted", ORIGINAL):
            if row.id not in voices:
                heard = heard_units(run.stack, row.heard, wave)
                voices[row.id] = own_voice(run.stack, wave, heard, row.spans)
            mended = spoken_gaps(run.stack, wave, row, frames_F, voices[row.id])
        if keep is not None:
            keep(name, utterance.id, mended, rate)
        yield SpokenPair(clean, mended, row.spans)


def _clean(utterance: Utterance, rate: int) -> Wave:
    return read_audio(path_of(utterance), rate, start_s=utterance.start_s, end_s=utterance.end_s)
