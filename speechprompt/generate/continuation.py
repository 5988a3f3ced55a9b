"""Spoken continuation: hear the beginning of a recording, go on in units, and speak the whole.

Source: Lakhotia et al. 2021, "On Generative Spoken Language Modeling from Raw Audio" (conditional generation),
here on units as the stack's LM reads them: one for every frame, or deduplicated, whose durations the vocoder predicts;
pGSLM says durations and F0 itself (`generate.prosodic`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechprompt.decode import SamplingConfig
from speechprompt.generate.continuation_stream import DEFAULT_SAMPLING, stream_continuation
from speechprompt.generate.growing import growing_frames, growing_units, joined
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.stack import Stack
from units.types import UnitSequence, Wave
from vocoder.base import UnitVocoder


@dataclass(frozen=True, eq=False)
class Continuation:
    """What was given and what follows it, as units and as sound.

    wave: (n_samples,) float32 at sample_rate Hz, the given part spoken again, then the new one.
    units: as the LM reads them, with durations. n_seed_units: how many of them were given. boundary_s: where they end.
    """

    wave: Wave
    sample_rate: int
    units: UnitSequence
    n_seed_units: int
    boundary_s: float


def continue_speech(
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
) -> Continuation:
    """Continue a recording: a file, or a wave (n_samples,) float32 at the quantizer's sample rate.

    seed_s: seconds of it that are heard, 2 where neither this nor seed_ratio is given. seed_ratio: the share that is
    heard instead, 0.25, 0.5 and 0.75 as published (SpeechGen). length_s: seconds of new speech, met to the frame.
    sampling: how units are chosen; its max_units, min_units and allow_end do not matter, because length_s decides.
    speaker: a voice of the vocoder. duration_temperature, f0_temperature: of pGSLM's other streams, None for the
    published ones; a language model without these streams passes them over. prefix: of a prompt that was trained to
    continue (`ContinuationRun.prompted.prefix()`); None for the plain language model.

    Raises InputError: a length that is not above 0, a recording shorter than seed_s (AudioError), a vocoder that
    cannot predict durations, or more units than the LM has positions for.
    """
    spoken = stream_continuation(
        stack,
        audio,
        seed_s=seed_s,
        seed_ratio=seed_ratio,
        length_s=length_s,
        sampling=sampling,
        speaker=speaker,
        duration_temperature=duration_temperature,
        f0_temperature=f0_temperature,
        prefix=prefix,
    )
    wave = np.concatenate(list(spoken))
    return Continuation(wave, spoken.sample_rate, spoken.units, spoken.n_seed_units, spoken.boundary_s)


def continue_frames(
    lm: UnitLM, seed: UnitSequence, *, length_s: float, sampling: SamplingConfig = DEFAULT_SAMPLING
) -> UnitSequence:
    """Add `length_s` of units to `seed`, one for every frame, for an LM that was trained on such units.

    Returns seed and new units, each of duration 1. Raises InputError as `continue_speech`.
    """
    return joined(seed, list(growing_frames(lm, seed, length_s=length_s, sampling=sampling)))


def continue_units(
    lm: UnitLM,
    vocoder: UnitVocoder,
    seed: UnitSequence,
    *,
    length_s: float,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
) -> UnitSequence:
    """Add units to `seed` until their predicted durations reach `length_s`; see `growing_units`.

    seed: deduplicated, with durations, which it keeps. Returns seed and new units with durations. Raises InputError as
    `continue_speech`.
    """
    return joined(seed, list(growing_units(lm, vocoder, seed, length_s=length_s, sampling=sampling)))
