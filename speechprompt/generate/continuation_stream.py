"""Continuation heard while it is being made: the seed at once, then piece after piece.

Shapes: T units, F frames, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speechprompt.decode import SamplingConfig
from speechprompt.generate.growing import Grown, growing_frames, growing_units, joined, n_frames
from speechprompt.generate.prosodic import growing_prosody, joined_prosody, stream_sampling
from speechprompt.lm.cache import Prefix
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_speech import relative_f0
from speechprompt.stack import Stack
from units.errors import AudioError, InputError
from units.types import UnitSequence, Wave

DEFAULT_SAMPLING = SamplingConfig(temperature=0.7)
DEFAULT_SEED_S = 2.0
CHUNK_FRAMES = 50  # of a piece: with the default seed the first one is heard before any unit is generated


class ContinuationStream:
    """A continuation in the making: iterate over it once to hear it.

    sample_rate: Hz. n_samples: of all pieces together, known from the start. n_seed_units: how many units are given.
    boundary_s: where what is new begins. units: after the last piece, all units with durations.
    """

    def __init__(
        self, stack: Stack, seed: UnitSequence, grown: Iterator[Grown], length_s: float, speaker: str | None
    ) -> None:
        self._stack, self._seed, self._coming, self._speaker = stack, seed, grown, speaker
        self._grown: list[Grown] = []
        self._ended = False
        self.sample_rate = stack.vocoder.sample_rate
        self.n_seed_units, self.boundary_s = len(seed), seed.duration_s
        n_all = seed.n_frames + n_frames(length_s, seed)
        self.n_samples = round(n_all * self.sample_rate / seed.spec.frame_rate)

    def __iter__(self) -> Iterator[Wave]:
        """Yield pieces (N,) float32. Raises InputError where the language model cannot say enough."""
        blocks = ((np.repeat(part.units, part.durations), self._f0(part)) for part in self._parts())
        yield from self._stack.vocoder.stream_frames(blocks, self._speaker, chunk_frames=CHUNK_FRAMES)
        self._ended = True

    @property
    def units(self) -> UnitSequence:
        """Given and new units. Raises InputError before all of them are heard."""
        if not self._ended:
            raise InputError("continuation: expected to be heard to its end first; iterate over its pieces")
        return self._joined(self._grown)

    def _parts(self) -> Iterator[Grown]:
        seed, seed_f0_T = self._seed, self._seed_f0()
        given_T = seed.durations if seed.durations is not None else np.ones(len(seed), dtype=np.int64)
        yield Grown(seed.units, given_T, seed_f0_T)
        for part in self._coming:
            self._grown.append(part)
            yield part

    def _joined(self, grown: list[Grown]) -> UnitSequence:
        return joined(self._seed, grown)

    def _seed_f0(self) -> np.ndarray | None:
        return None

    def _f0(self, part: Grown) -> np.ndarray | None:
        """What the vocoder reads beside the frames of a part."""
        return None


class ProsodicStream(ContinuationStream):
    """The same of pGSLM, whose vocoder may read F0."""

    def _joined(self, grown: list[Grown]) -> UnitSequence:
        assert isinstance(self._stack.lm, PGSLM)
        return joined_prosody(self._stack.lm, self._seed, grown).units

    def _seed_f0(self) -> np.ndarray | None:
        assert isinstance(self._stack.lm, PGSLM)
        return relative_f0(self._seed, self._stack.lm.prosody)

    def _f0(self, part: Grown) -> np.ndarray | None:
        assert part.f0 is not None
        voice = self._stack.voice
        return voice.frame_f0(part.f0, part.durations) if voice.needs_f0 else None


def stream_continuation(
    stack: Stack,
    audio: str | Path | np.ndarray,
    *,
    seed_s: float | None = None,
    seed_ratio: float | None = None,
    length_s: float = 4.0,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    speaker: str | None = None,
    duration_temperature: float | None = None,
    f0_temperature: float | None = None,
    prefix: Prefix | None = None,
) -> ContinuationStream:
    """Continue a recording piece by piece: joined, the pieces are `continue_speech`'s wave, sample for sample.

    Arguments as `continue_speech`. Raises as it does: at once what can be known, the rest while it is heard.
    """
    if not (math.isfinite(length_s) and length_s > 0):
        raise InputError(f"length_s: expected seconds above 0, got {length_s}; choose a longer time")
    wave_N = _seed_wave(stack, audio, seed_s, seed_ratio)
    if stack.lm_part["family"] == "pgslm":
        if prefix is not None:
            raise InputError(
                f"prefix: expected a language model of units alone, got pGSLM in stack {stack.name}; leave it out"
            )
        stack.voice.needs_f0  # noqa: B018 (asked first: it may refuse)
        [seed] = stack.quantize([wave_N], deduplicate=True, f0=True)
        assert isinstance(stack.lm, PGSLM)
        streams = stream_sampling(stack.lm, sampling, duration_temperature, f0_temperature)
        coming = growing_prosody(stack.lm, seed, length_s=length_s, sampling=streams)
        return ProsodicStream(stack, seed, coming, length_s, speaker)
    vocoder = stack.unit_vocoder
    [seed] = stack.quantize([wave_N])
    if stack.deduplicate:
        coming = growing_units(stack.lm, vocoder, seed, length_s=length_s, sampling=sampling, prefix=prefix)
    else:
        coming = growing_frames(stack.lm, seed, length_s=length_s, sampling=sampling, prefix=prefix)
    return ContinuationStream(stack, seed, coming, length_s, speaker)


def _seed_wave(
    stack: Stack, audio: str | Path | np.ndarray, seed_s: float | None, seed_ratio: float | None
) -> Wave:
    """The beginning of a recording that is heard."""
    if seed_s is not None and seed_ratio is not None:
        raise InputError("seed: expected seed_s or seed_ratio, got both; leave one out")
    if seed_ratio is not None and not 0 < seed_ratio <= 1:
        raise InputError(f"seed_ratio: expected a share above 0, at most 1, got {seed_ratio}; 0.5 hears half")
    if seed_s is not None and not (math.isfinite(seed_s) and seed_s > 0):
        raise InputError(f"seed_s: expected seconds above 0, got {seed_s}; choose a longer time")
    wave_N, rate = stack.read(audio), stack.quantizer.sample_rate
    if seed_ratio is not None:
        return wave_N[: max(1, round(seed_ratio * len(wave_N)))]
    seconds = DEFAULT_SEED_S if seed_s is None else seed_s
    if len(wave_N) < round(seconds * rate):
        name = "audio" if isinstance(audio, np.ndarray) else str(audio)
        raise AudioError(
            f"{name}: expected at least {seconds:g} s to hear first, got {len(wave_N) / rate:.2f} s; "
            "hear less (seed_s, seed_ratio), or give a longer recording"
        )
    return wave_N[: round(seconds * rate)]
