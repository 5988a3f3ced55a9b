"""A run of translation measured on a split: units against the target's, and words as a judge hears them (ASR-BLEU)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.generate.translation import TranslationRun, load_translation_run, units_of
from speechprompt.judge import Judge, plain_words
from speechprompt.judge.text_errors import text_error_measures
from speechprompt.run_record import record_metrics
from speechprompt.seq2seq.decoding import WritingConfig
from tasks.base import Task, Utterance
from tasks.metrics import ratio_interval, word_edits
from tasks.metrics.bleu import bleu_measures
from tasks.metrics.edits import rate
from tasks.registry import get_task
from units.audio import read_audio
from units.errors import InputError


def evaluate_translation(
    run: TranslationRun | str | Path,
    split: str = "test",
    *,
    task: Task | None = None,
    data: str | Path | None = None,
    writing: WritingConfig | None = None,
    judge: Judge | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a run on a split of its pairs, and note the metrics in its `run.json`.

    task, data: None for what the run was trained on. writing: how units are chosen; None for greedily. judge: writes
    down what is said; compared with the pairs' texts where all have one, otherwise with what it hears in the targets.
    Returns: `n`, `unit_error_rate` (edits per target unit, deduplicated) with its 95% bootstrap interval; with a judge
    also `asr_bleu` (see `bleu_measures`) and those of `text_error_measures`.
    Raises InputError: an unknown split, one without pairs, recordings too long for the model; AudioError: recordings
    that cannot be used.
    """
    run = run if isinstance(run, TranslationRun) else load_translation_run(run, device=device)
    task = task or get_task(run.record.task, data if data is not None else run.record.data)
    utterances = task.utterances(split)
    if not utterances:
        raise InputError(f"{split}: expected pairs, got none; choose another split")
    sources, targets = (units_of(utterances, run.stack, target=t, progress=progress) for t in (False, True))
    written = run.write(sources, writing)
    edits = word_edits([_text(units) for units in targets], [_text(units) for units in written])
    measures: dict[str, Any] = {"n": len(utterances), "unit_error_rate": rate(edits)}
    measures["unit_error_rate_interval_95"] = list(ratio_interval(*edits))
    if judge is not None:
        measures |= _words(run, utterances, written, judge)
    record_metrics(run.folder, split, measures)
    return measures


def in_words(measures: dict[str, Any]) -> list[str]:
    """Measures with their intervals, in words."""
    words = []
    for name, title, scale in (
        ("asr_bleu", "ASR-BLEU", 1.0),
        ("unit_error_rate", "unit error rate", 100.0),
        ("judge_wer", "judge wer", 100.0),
        ("judge_cer", "judge cer", 100.0),
    ):
        if name in measures:
            low, high = (scale * bound for bound in measures[f"{name}_interval_95"])
            unit = "" if scale == 1 else "%"
            words.append(f"{title} {scale * measures[name]:.1f}{unit} (95% interval {low:.1f} to {high:.1f})")
    return words


def _words(
    run: TranslationRun, utterances: Sequence[Utterance], written: Sequence[np.ndarray], judge: Judge
) -> dict[str, Any]:
    """What the judge hears, against texts or targets."""
    rate_hz = run.stack.vocoder.sample_rate
    heard = [judge([run.speak(units)], rate_hz)[0] if len(units) else "" for units in written]
    kind = "text" if all(utterance.target for utterance in utterances) else "clean"
    if kind == "text":
        references = [plain_words(utterance.target) for utterance in utterances]
    else:
        paths = [utterance.target_path for utterance in utterances]
        references = [judge([read_audio(path, rate_hz)], rate_hz)[0] for path in paths if path is not None]
    errors = text_error_measures(references, heard, judge=judge.name, reference=kind)
    return {**bleu_measures(references, heard, name="asr_bleu"), **errors}


def _text(units_T: np.ndarray) -> str:
    """Units as words, runs of one unit once."""
    if not len(units_T):
        return ""
    kept_T = np.concatenate([[True], units_T[1:] != units_T[:-1]])
    return " ".join(map(str, units_T[kept_T].tolist()))
