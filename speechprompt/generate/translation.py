"""Speech to speech in another language: a prompted encoder-decoder writes the units of what is to be said.

Shapes: T units, S source tokens, N samples.

Source: Wu et al. 2023 (SpeechGen), speech translation; unit mBART's language tags from Popuri et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.checkpoint import require_free
from speechprompt.generate.pair_training import TRAINING, Pairs, open_pair_run, train_on_pairs
from speechprompt.opened_run import OpenedRun
from speechprompt.run_record import read_record
from speechprompt.seq2seq.batch import Pair
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.decoding import WritingConfig, write_units
from speechprompt.seq2seq.prompted import PromptedMBart
from speechprompt.seq2seq.rows import source_row
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import quantize_utterances
from speechprompt.train_config import TrainConfig
from tasks.base import Task, Utterance
from tasks.registry import get_task
from units.errors import InputError
from units.types import UnitSequence, Wave

TASK = "translation"


@dataclass(frozen=True)
class TranslationConfig:
    """source_language: tag of what is read; None for the model's first one. The target's is the prompt's language."""

    source_language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for run.json."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class TranslationRun(OpenedRun):
    """What `train_translation` gives and `load_translation_run` opens.

    stack: with encoder, codebook, encoder-decoder, vocoder. prompted: in evaluation mode, with the best epoch's
    weights. config: see TranslationConfig.
    """

    prompted: PromptedMBart
    config: TranslationConfig

    def write(self, sources: Sequence[np.ndarray], writing: WritingConfig | None = None) -> list[np.ndarray]:
        """Units (T,) int64 of translations of unit rows (T,), as the model reads them. Raises as `write_units`."""
        vocab = self.prompted.lm.vocab
        rows = [source_row(vocab.encode(units), vocab, self.config.source_language) for units in sources]
        return write_units(self.prompted, rows, writing or WritingConfig())

    def speak(self, units_T: np.ndarray, speaker: str | None = None) -> Wave:
        """Say written units: (N,) float32, empty for none; how long each lasts the vocoder predicts, where it can."""
        if self.stack.seq2seq_deduplicates and len(units_T):
            units_T = units_T[np.concatenate([[True], units_T[1:] != units_T[:-1]])]
        return self.stack.unit_vocoder(UnitSequence(units_T, self.stack.spec), speaker)


@dataclass(frozen=True, eq=False)
class Translation:
    """wave: (N,) float32 at sample_rate Hz. units: (T,) int64, as written."""

    wave: Wave
    sample_rate: int
    units: np.ndarray


def translate_speech(
    run: TranslationRun,
    audio: str | Path | np.ndarray,
    *,
    writing: WritingConfig | None = None,
    speaker: str | None = None,
) -> Translation:
    """Translate a recording: a file, or a wave (N,) float32 at the quantizer's sample rate.

    writing: how units are chosen; None for greedily. speaker: a voice of the vocoder.
    Raises InputError: a recording that is too long for the model, or for which it writes nothing; AudioError: one that
    cannot be used; StackError: a stack without encoder or vocoder.
    """
    stack = run.stack
    stack.unit_vocoder  # noqa: B018 (asked first: it may refuse)
    [heard] = stack.quantize(audio, deduplicate=stack.seq2seq_deduplicates)
    most = run.prompted.max_source - 3
    if len(heard) > most:
        raise InputError(
            f"translation: expected at most {most} units, which the model reads at once, got {len(heard)}; "
            "cut the recording into sentences"
        )
    [units_T] = run.write([heard.units], writing)
    if not len(units_T):
        raise InputError(
            "translation: expected the model to write units, got none; train longer, or try --beam 5"
        )
    return Translation(run.speak(units_T, speaker), stack.vocoder.sample_rate, units_T)


def train_translation(
    task: Task | str = TASK,
    stack: Stack | str | Path = "mini",
    out: str | Path = "run",
    *,
    data: str | Path | None = None,
    prompt: Seq2SeqPromptConfig | None = None,
    config: TranslationConfig | None = None,
    training: TrainConfig | None = None,
    seed: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> TranslationRun:
    """Train a prompt to write a target recording's units from its source's, or continue where that was interrupted.

    task: whose utterances have a target_path, or the name of one, whose CSV is `data`. Other arguments, errors and what
    comes of an unfinished run as `train_inpainting`.
    """
    require_free(out)
    prompt, config, training = (
        prompt or Seq2SeqPromptConfig(),
        config or TranslationConfig(),
        training or TRAINING,
    )
    if seed is not None:
        prompt, training = replace(prompt, seed=seed), replace(training, seed=seed)
    task = get_task(task, data) if isinstance(task, str) else task
    stack = stack if isinstance(stack, Stack) else load_stack(stack, device)

    def pairs(model: PromptedMBart) -> Pairs:
        train, valid = (
            _pairs(task.utterances(s), model, stack, config, progress) for s in ("train", "valid")
        )
        return [train], valid

    prompted = train_on_pairs(
        task,
        stack,
        out,
        pairs,
        generation=config.to_dict(),
        prompt=prompt,
        training=training,
        progress=progress,
    )
    return TranslationRun(Path(out), read_record(out), stack, prompted.eval(), config)


def load_translation_run(
    folder: str | Path, *, stack: Stack | str | Path | None = None, device: str = "cpu"
) -> TranslationRun:
    """Open a run, finished or not (then with the best prompt so far). stack, errors: as `load_inpainting_run`."""
    record, opened, prompted = open_pair_run(folder, "source_language", TASK, stack=stack, device=device)
    return TranslationRun(
        Path(folder), record, opened, prompted, TranslationConfig(**dict(record.generation))
    )


def units_of(
    utterances: Sequence[Utterance], stack: Stack, *, target: bool, progress: bool = False
) -> list[np.ndarray]:
    """Units (T,) of what is to be translated, or of what it becomes, as the encoder-decoder reads them, cached."""
    recordings = list(utterances)
    if target:
        absent = next((u.id for u in utterances if u.target_path is None), None)
        if absent is not None:
            raise InputError(f"{absent}: expected a target recording, got none; use the task {TASK}")
        recordings = [Utterance(u.id, "", u.target_path) for u in utterances]
    return quantize_utterances(recordings, stack, deduplicate=stack.seq2seq_deduplicates, progress=progress)


def _pairs(
    utterances: Sequence[Utterance],
    prompted: PromptedMBart,
    stack: Stack,
    config: TranslationConfig,
    progress: bool,
) -> list[Pair]:
    vocab = prompted.lm.vocab
    sources, targets = (units_of(utterances, stack, target=t, progress=progress) for t in (False, True))
    return [
        Pair(source_row(vocab.encode(source), vocab, config.source_language), target)
        for source, target in zip(sources, targets, strict=True)
    ]
