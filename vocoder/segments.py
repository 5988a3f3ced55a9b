"""Training material of the vocoder: random segments of speech with their units and F0, and deduplicated utterances.

Shape legend: B batch, S samples, T units or frames, F input frames of the generator (`frames_per_unit` for every unit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from units.errors import InputError


@dataclass(frozen=True, eq=False)
class VocoderExample:
    """One utterance.

    Attributes:
        wave: (n_samples,) float32 in [-1, 1], or int16 PCM (half the memory; a memory map will do).
        units: (n_frames,) integer, one raw unit id per frame; unit i belongs to samples i * hop to (i + 1) * hop.
        speaker: row of the speaker table.
        f0: F0 for a generator that reads it, else None: (n_frames,), one value per frame, or as many per frame as
            divide the generator's `frames_per_unit`. Values are floating point, scaled as one likes (normalised log
            F0, say; what speaks later must scale alike), unvoiced frames included; or integers, bins of the F0 table.
    """

    wave: np.ndarray
    units: np.ndarray
    speaker: int = 0
    f0: np.ndarray | None = None

    def samples(self, start: int, stop: int) -> np.ndarray:
        """Samples start to stop as float32 in [-1, 1]."""
        piece = self.wave[start:stop].astype(np.float32)
        return piece / np.float32(32768) if self.wave.dtype == np.int16 else piece

    def f0_of(self, start: int, stop: int, per_frame: int = 1) -> np.ndarray | None:
        """F0 of frames start to stop: (frames * per_frame,), float32 values or int64 bins; None where there is none.

        per_frame: values per frame, a multiple of those that are there, each of which is repeated: what the generator
        is given where it speaks (`UnitVocoder`).
        """
        if self.f0 is None:
            return None
        given = len(self.f0) // len(self.units)
        piece = np.repeat(self.f0[start * given : stop * given], per_frame // given)
        return piece.astype(np.float32 if np.issubdtype(piece.dtype, np.floating) else np.int64)


class Segments(NamedTuple):
    """A batch of segments, S = T * hop_length.

    Attributes:
        waves_BS: (B, S) float32.
        units_BT: (B, T) int64.
        speakers_B: (B,) int64.
        f0_BF: (B, F) F0, float32 values or int64 bins, F = T * f0_per_frame; None for examples without F0.
    """

    waves_BS: Tensor
    units_BT: Tensor
    speakers_B: Tensor
    f0_BF: Tensor | None


class SegmentSampler:
    """Draws batches of segments; the batch of a step depends on the seed and the step alone.

    The utterances of a speaker form one endless track, so that clips shorter than a segment serve as well: a segment
    may run from one utterance into the speaker's next.

    Args:
        examples: utterances; samples after a wave's last whole frame are left out.
        hop_length: samples per frame (of a unit).
        segment_frames: length of a segment.
        speaker_power: a speaker is drawn with a probability proportional to its frames to this power: 1 is by time,
            0 gives every speaker the same share.
        seed: of the draws, which are the same with F0 and without.
        f0_per_frame: F0 values per frame in a batch (`HiFiGANConfig.frames_per_unit`).

    Raises:
        InputError: no examples, one whose wave is shorter than its units, or F0 in some and not in others.
    """

    def __init__(
        self,
        examples: Sequence[VocoderExample],
        hop_length: int,
        segment_frames: int,
        speaker_power: float = 1.0,
        seed: int = 0,
        f0_per_frame: int = 1,
    ) -> None:
        if not examples:
            raise InputError(
                "vocoder training: expected at least one example, got none; give a larger corpus"
            )
        for i, example in enumerate(examples):
            if len(example.units) == 0 or len(example.wave) < len(example.units) * hop_length:
                raise InputError(
                    f"vocoder example {i}: expected units and {hop_length} samples for each, got {len(example.units)} "
                    f"units and {len(example.wave)} samples; cut the units or pad the wave"
                )
            if (example.f0 is None) != (examples[0].f0 is None):
                raise InputError(
                    f"vocoder example {i}: expected F0 in all examples or in none, got one that differs from the "
                    "first; give F0 to all"
                )
        self.examples, self.hop_length, self.segment_frames, self.seed = (
            examples,
            hop_length,
            segment_frames,
            seed,
        )
        self.f0_per_frame = f0_per_frame
        speakers = np.array([example.speaker for example in examples])
        lengths = np.array([len(example.units) for example in examples])
        self._speaker_ids = np.unique(speakers)
        self._members = [np.flatnonzero(speakers == speaker) for speaker in self._speaker_ids]
        self._ends = [np.cumsum(lengths[members]) for members in self._members]
        weights = np.array([ends[-1] for ends in self._ends], dtype=np.float64) ** speaker_power
        self._probabilities = weights / weights.sum()
        self._runs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def segments(self, step: int, batch_size: int) -> Segments:
        """Draw a batch of segments."""
        rng = np.random.default_rng((self.seed, step, 0))
        n_frames, hop = self.segment_frames, self.hop_length
        waves_BS = np.empty((batch_size, n_frames * hop), dtype=np.float32)
        units_BT = np.empty((batch_size, n_frames), dtype=np.int64)
        f0_rows: list[list[np.ndarray]] = [[] for _ in range(batch_size)]
        tracks = rng.choice(len(self._members), size=batch_size, p=self._probabilities)
        places = rng.random(batch_size)
        for row, (track, place) in enumerate(zip(tracks, places, strict=True)):
            members, ends = self._members[track], self._ends[track]
            start = int(place * ends[-1])
            which = int(np.searchsorted(ends, start, side="right"))
            offset = start - (int(ends[which - 1]) if which else 0)
            filled = 0
            while filled < n_frames:
                example = self.examples[members[which % len(members)]]
                taken = min(n_frames - filled, len(example.units) - offset)
                units_BT[row, filled : filled + taken] = example.units[offset : offset + taken]
                samples = example.samples(offset * hop, (offset + taken) * hop)
                waves_BS[row, filled * hop : (filled + taken) * hop] = samples
                f0 = example.f0_of(offset, offset + taken, self.f0_per_frame)
                if f0 is not None:
                    f0_rows[row].append(f0)
                filled, which, offset = filled + taken, which + 1, 0
        speakers_B = self._speaker_ids[tracks].astype(np.int64)
        f0_BF = None
        if self.examples[0].f0 is not None:
            f0_BF = torch.from_numpy(np.stack([np.concatenate(pieces) for pieces in f0_rows]))
        return Segments(
            torch.from_numpy(waves_BS), torch.from_numpy(units_BT), torch.from_numpy(speakers_B), f0_BF
        )

    def runs(self, step: int, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch of whole deduplicated utterances for the duration predictor.

        Returns:
            units (B, T) int64, durations (B, T) int64 frames, mask (B, T) bool; padded with 0, 0, False.
        """
        rng = np.random.default_rng((self.seed, step, 1))
        rows = [self._run_lengths(int(i)) for i in rng.integers(len(self.examples), size=batch_size)]
        return pad_runs(rows)

    def _run_lengths(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index not in self._runs:
            self._runs[index] = run_lengths(self.examples[index].units)
        return self._runs[index]


def run_lengths(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Collapse repeats: (n_frames,) units -> (T,) int64 deduplicated units and (T,) int64 frames of each."""
    starts = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[starts].astype(np.int64), np.diff(starts, append=len(units)).astype(np.int64)


def pad_runs(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack (units, durations) pairs of unequal length: units, durations, mask, each (B, T)."""
    longest = max(len(units) for units, _ in rows)
    units_BT = torch.zeros(len(rows), longest, dtype=torch.int64)
    duration_BT = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, (units, durations) in enumerate(rows):
        units_BT[row, : len(units)] = torch.from_numpy(units)
        duration_BT[row, : len(units)] = torch.from_numpy(durations)
    return units_BT, duration_BT, duration_BT > 0
