"""Recordings with gaps, as units: what is heard of them beside what was said, from the encoder, cached.

Shapes: F frames.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from speechprompt.cache_folder import cache_folder
from speechprompt.generate.corruption import CorruptionConfig, Span, corrupted, draw_spans
from speechprompt.stack import Stack
from speechprompt.task_units import cache_key, only_writer, path_of, read_if_whole
from speechprompt.tracked import tracked
from speechprompt.views import AS_IS
from tasks.base import Utterance
from units.audio import read_audio
from units.corpus import CorpusEntry
from units.errors import AudioError
from units.store import UnitRow, UnitStore, UnitStoreWriter
from units.types import UnitSpec, Wave

_FILES_AT_ONCE = 32  # read before they are quantized together
_FORMAT = 1  # part of every cache key: raise it when the meaning of an entry changes


@dataclass(frozen=True, eq=False)
class Damaged:
    """One recording with gaps.

    Attributes:
        id: the utterance's.
        heard: unit of every frame of the damaged wave, (F,) int64.
        clean: of the wave as it was, (F,) int64.
        gaps: first frame of each gap and the one after the last, in order of time.
        spans: the same in samples of the encoder's rate.
    """

    id: str
    heard: np.ndarray
    clean: np.ndarray
    gaps: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]


def gap_frames(spans: Sequence[Span], sample_rate: int, spec: UnitSpec, n_frames: int) -> tuple[Span, ...]:
    """Frames that spans of samples touch. One beyond the last frame becomes an empty gap at the end."""
    frames_per_sample = spec.frame_rate / sample_rate
    gaps = []
    for start, stop in spans:
        first, last = math.floor(start * frames_per_sample), math.ceil(stop * frames_per_sample)
        gaps.append((min(first, n_frames), min(last, n_frames)))
    return tuple(gaps)


def damaged_wave(
    wave: Wave, name: str, sample_rate: int, config: CorruptionConfig, version: int
) -> tuple[Wave, tuple[Span, ...]]:
    """One version of a recording's damage, the same in every call: the wave, and where it was damaged."""
    rng = config.generator(name, version)
    spans = draw_spans(len(wave), sample_rate, config, rng)
    return corrupted(wave, spans, config, rng), spans


def damaged_units(
    utterances: Sequence[Utterance],
    stack: Stack,
    config: CorruptionConfig,
    *,
    version: int = 0,
    progress: bool = False,
) -> list[Damaged]:
    """Units of recordings before and after one version of their damage, in order, from the cache where they are there.

    Raises AudioError: a recording that cannot be used. StackError: a stack without an encoder.
    """
    clean = _cached(utterances, stack, None, 0, progress)
    heard = _cached(utterances, stack, config, version, progress)
    rate = stack.quantizer.sample_rate
    rows = []
    for utterance in utterances:
        row, whole = heard[utterance.id], clean[utterance.id]
        spans = tuple((int(start), int(stop)) for start, stop in json.loads(row.label or "[]"))
        gaps = gap_frames(spans, rate, stack.spec, len(row.units))
        rows.append(Damaged(utterance.id, row.units, whole.units, gaps, spans))
    return rows


def _cached(
    utterances: Sequence[Utterance],
    stack: Stack,
    config: CorruptionConfig | None,
    version: int,
    progress: bool,
) -> dict[str, UnitRow]:
    """Units of every frame, undamaged without `config`; spans are written into the label."""
    entries = [CorpusEntry(u.id, path_of(u), start_s=u.start_s, end_s=u.end_s) for u in utterances]
    about = {
        "format": _FORMAT,
        "recordings": cache_key(entries, stack, AS_IS, deduplicate=False),
        "corruption": None if config is None else config.to_dict(),
        "version": version,
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder() / "damaged" / key
    if read_if_whole(folder, len(entries)) is None:
        with only_writer(folder):
            if read_if_whole(folder, len(entries)) is None:  # whoever held the lock may have made it
                with UnitStoreWriter(folder, stack.spec) as store:
                    for row in _quantized(entries, stack, config, version, progress):
                        store.add(row)
    return {row.id: row for row in UnitStore(folder).rows()}


def _quantized(
    entries: Sequence[CorpusEntry],
    stack: Stack,
    config: CorruptionConfig | None,
    version: int,
    progress: bool,
) -> Iterator[UnitRow]:
    rate = stack.quantizer.sample_rate
    for start in tracked(range(0, len(entries), _FILES_AT_ONCE), "quantizing", progress=progress):
        group = entries[start : start + _FILES_AT_ONCE]
        waves, rows = [], []
        for entry in group:
            wave = read_audio(entry.path, rate, start_s=entry.start_s, end_s=entry.end_s)
            spans: tuple[Span, ...] = ()
            if config is not None:
                wave, spans = damaged_wave(wave, entry.id, rate, config, version)
            waves.append(wave)
            none = np.empty(0, dtype=np.int64)
            rows.append(UnitRow(entry.id, none, label=json.dumps(spans), path=str(entry.path)))
        for row, sequence in zip(rows, _together(stack, group, waves), strict=True):
            yield replace(row, units=sequence)


def _together(stack: Stack, group: Sequence[CorpusEntry], waves: Sequence[Wave]) -> list[np.ndarray]:
    """Units of waves quantized together; where that cannot be, the error names the recording."""
    try:
        return [sequence.units for sequence in stack.quantizer(waves)]
    except AudioError:
        for entry, wave in zip(group, waves, strict=True):
            try:
                stack.quantizer([wave])
            except AudioError as error:
                raise AudioError(f"{Path(entry.path)}: {error}") from error
        raise
