"""A prompted encoder-decoder that fills gaps: what it reads, what it is trained to write, what of it fills the gap.

Shapes: F frames, T units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from speechprompt.generate.consensus import median_row
from speechprompt.generate.corruption import CorruptionConfig, Span
from speechprompt.generate.damaged import Damaged
from speechprompt.generate.filling import FILLING
from speechprompt.generate.gap_filling import (
    between,
    filled,
    fitted,
    held_from_both_sides,
    runs,
    widened,
    with_cut_units,
    written_in_gaps,
)
from speechprompt.generate.growing import predicted_frames
from speechprompt.seq2seq.batch import Pair
from speechprompt.seq2seq.decoding import WritingConfig, write_units
from speechprompt.seq2seq.prompted import PromptedMBart
from speechprompt.seq2seq.rows import source_row
from speechprompt.vocab import MBartVocab
from units.errors import InputError
from vocoder.base import UnitVocoder

_TAIL = 12  # units behind the last gap that are written, too: by them its end is found


@dataclass(frozen=True)
class InpaintingConfig:
    """What is inpainted, and how the gap is shown to the model.

    Attributes:
        corruption: of training and evaluation.
        versions: differently damaged versions of the training recordings; epoch e reads version e modulo `versions`.
        masked: whether `<mask>` stands in the source where the gap is, as in the model's pretraining, in place of the
            units that the encoder hears in it (published).
        guard: frames on both sides of a gap whose units the gap has changed: they are filled with it.
        gap_weight: of the loss of target units in the gap; that of the others is 1.
    Raises: InputError for values outside their range.
    """

    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    versions: int = 4
    masked: bool = False
    guard: int = 2
    gap_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.versions < 1 or self.guard < 0 or self.gap_weight <= 0:
            raise InputError(
                f"inpainting: expected versions of at least 1, guard of at least 0, gap_weight above 0, got {self}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> InpaintingConfig:
        """Read what `to_dict` gave. Raises: TypeError or KeyError where it is not that."""
        return cls(**{**content, "corruption": CorruptionConfig(**content["corruption"])})


@dataclass(frozen=True, eq=False)
class GapReading:
    """How a damaged recording is shown to an encoder-decoder, and what it is to write of it.

    Attributes:
        config: how gaps are shown.
        vocab, language: of the rows.
        deduplicate: whether one unit is read for every run of it.
        mask_each: whether masks are known as one for every unit, or as one for all that is missing.
    """

    config: InpaintingConfig
    vocab: MBartVocab
    language: str | None
    deduplicate: bool
    mask_each: bool = False

    def units(self, frames_F: np.ndarray) -> np.ndarray:
        """Frames as they are read: (T,) int64."""
        return runs(frames_F)[0] if self.deduplicate else frames_F

    def source(self, row: Damaged, known_F: np.ndarray | None = None) -> np.ndarray:
        """Token ids (S,) that the encoder reads of a recording.

        known_F: frames with the gaps filled, which tell how many units those lack; None: guessed by the rate around.
        """
        if not self.config.masked:
            return source_row(self.vocab.encode(self.units(row.heard)), self.vocab, self.language)
        regions = widened(row.gaps, len(row.heard), self.config.guard)
        parts = between(row.heard, regions)
        ids = [self.vocab.encode(self.units(part)) for part in parts]
        sizes = self._missing(regions, parts, known_F) if self.mask_each else [1] * len(regions)
        masks = [np.full(max(1, size), self.vocab.mask, dtype=np.int64) for size in sizes]
        masks.append(np.empty(0, dtype=np.int64))  # nothing is missing behind the last part
        shown = [x for pair in zip(ids, masks, strict=True) for x in pair]
        return source_row(np.concatenate(shown), self.vocab, self.language)

    def _missing(
        self, regions: Sequence[Span], parts: Sequence[np.ndarray], known_F: np.ndarray | None
    ) -> list[int]:
        """How many units each region lacks, beside those of the parts around it."""
        n_units = [len(self.units(part)) for part in parts]
        if known_F is None:
            n_frames = sum(map(len, parts))
            rate = sum(n_units) / n_frames if n_frames else 1.0
            return [round(rate * (stop - start)) for start, stop in regions]
        whole = [
            np.concatenate([a, known_F[slice(*r)], b])
            for a, r, b in zip(parts, regions, parts[1:], strict=False)
        ]
        return [len(self.units(w)) - a - b for w, a, b in zip(whole, n_units, n_units[1:], strict=False)]

    def pair(self, row: Damaged) -> Pair:
        """What is read of a recording and what is to be written: its clean units, those in the gaps marked.

        Where the gaps are masked, units around them are written as they are heard: these are kept, whatever is written.
        """
        regions = widened(row.gaps, len(row.clean), self.config.guard)
        marked_F = np.zeros(len(row.clean), dtype=bool)
        for start, stop in regions:
            marked_F[start:stop] = True
        wanted_F = np.where(marked_F, row.clean, row.heard) if self.config.masked else row.clean
        if not self.deduplicate:
            return Pair(self.source(row, wanted_F), wanted_F, marked_F)
        units_T, frames_T = runs(wanted_F)
        starts_T = frames_T.cumsum() - frames_T
        return Pair(self.source(row, wanted_F), units_T, np.maximum.reduceat(marked_F, starts_T))


@dataclass(frozen=True, eq=False)
class Inpainter:
    """Fills gaps in rows of frames.

    Attributes:
        prompted: with a trained prompt, or with none: the plain language model.
        reading: how gaps are shown to it.
        vocoder: tells how long units last, where it can; None: all equally long.
        writing: how units are chosen; of several candidates the gap's median is taken.
        begun: whether the model is given, as written already, what was heard before the first gap.
    """

    prompted: PromptedMBart
    reading: GapReading
    vocoder: UnitVocoder | None = None
    writing: WritingConfig = FILLING
    begun: bool = True

    @property
    def config(self) -> InpaintingConfig:
        """How gaps are shown, and made in training."""
        return self.reading.config

    def __call__(self, damaged: Sequence[Damaged]) -> list[np.ndarray]:
        """Give every recording's units with its gaps filled, (F,) int64 each; frames outside stay as heard."""
        regions = [widened(row.gaps, len(row.heard), self.config.guard) for row in damaged]
        contexts = [
            [self.reading.units(part) for part in between(row.heard, places)]
            for row, places in zip(damaged, regions, strict=True)
        ]
        n = self.writing.candidates
        sources = [self.reading.source(row) for row in damaged]
        begun = [parts[0] for parts in contexts] if self.begun else None
        most = [_most(parts, places) for parts, places in zip(contexts, regions, strict=True)]
        written = write_units(self.prompted, sources, self.writing, begun=begun, most=most)
        rows = []
        for place, (row, spans, parts) in enumerate(zip(damaged, regions, contexts, strict=True)):
            said = written[place * n : (place + 1) * n]
            rows.append(self._filled(row.heard, spans, *_agreed(said, parts)))
        return rows

    def _filled(
        self, heard_F: np.ndarray, regions: Sequence[Span], said_T: np.ndarray, in_gaps: Sequence[slice]
    ) -> np.ndarray:
        lasting_T = self._durations(said_T)
        fills = []
        for region, part in zip(regions, in_gaps, strict=True):
            units, weights = with_cut_units(said_T, lasting_T, part, heard_F, region)
            n_frames = region[1] - region[0]
            fills.append(
                fitted(units, weights, n_frames) if len(units) else held_from_both_sides(heard_F, region)
            )
        return filled(heard_F, regions, fills)

    def _durations(self, said_T: np.ndarray) -> np.ndarray:
        """How long each written unit would last by itself, in frames."""
        can = self.vocoder is not None and self.vocoder.generator.config.dur_predictor_params is not None
        if self.vocoder is None or not can or not self.reading.deduplicate or not len(said_T):
            return np.ones(len(said_T))
        return predicted_frames(self.vocoder, said_T)


def _most(contexts: Sequence[np.ndarray], regions: Sequence[Span]) -> int:
    """Units of a row up to a little behind its last gap: a gap holds no more of them than frames."""
    return sum(map(len, contexts[:-1])) + sum(stop - start for start, stop in regions) + _TAIL


def _agreed(said: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[slice]]:
    """One row for all that were written, and where its gaps lie: what is heard, with medians in the gaps."""
    # Nothing is known of the empty context behind: what is written after the tail costs nothing.
    known = [*contexts[:-1], contexts[-1][:_TAIL], contexts[-1][:0]]
    in_gaps = [written_in_gaps(said_T, known)[:-1] for said_T in said]
    if len(said) == 1:
        return said[0], in_gaps[0]
    parts, places, length = [contexts[0]], [], len(contexts[0])
    for gap, context in enumerate(contexts[1:]):
        median = median_row([said_T[spans[gap]] for said_T, spans in zip(said, in_gaps, strict=True)])
        places.append(slice(length, length + len(median)))
        parts += [median, context]
        length += len(median) + len(context)
    return np.concatenate(parts), places
