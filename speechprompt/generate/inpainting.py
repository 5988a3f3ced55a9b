"""Spoken inpainting: a gap in a recording filled with what a prompted encoder-decoder says belongs there.

Shapes: F frames, N samples, M samples of the voice.

Source: Wu et al. 2023 (SpeechGen), speech inpainting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from speechprompt.generate.corruption import Span, corrupted
from speechprompt.generate.damaged import Damaged, gap_frames
from speechprompt.generate.gap_filling import widened
from speechprompt.generate.inpainter import Inpainter
from speechprompt.generate.nearest_voice import nearest_voice
from speechprompt.generate.splicing import spliced
from speechprompt.stack import Stack
from units.errors import AudioError, InputError
from units.pitch import with_f0
from units.recording import Recording, read_recording
from units.types import UnitSequence, Wave

_CONTEXT_S = 10.0  # heard on both sides of the gaps
_SPECIALS = 4  # tokens of a row that are no units


@dataclass(frozen=True, eq=False)
class Inpainted:
    """A recording with its gaps filled.

    recording: as the file was, with every sample outside the gaps equal to the bit; or the whole spoken anew.
    units: of every frame, as spoken. regions: frames that were filled, a little more than the gaps.
    """

    recording: Recording
    units: UnitSequence
    regions: tuple[Span, ...]


def inpaint_speech(
    stack: Stack,
    inpainter: Inpainter,
    audio: str | Path | np.ndarray,
    gaps_s: Sequence[tuple[float, float]],
    *,
    whole: bool = False,
    speaker: str | None = None,
) -> Inpainted:
    """Fill gaps of a recording: a file, or a wave (N,) float32 at the quantizer's sample rate.

    What lies in the gaps is not heard: the damage of the inpainter's training is put there first.

    gaps_s: start and end of each in seconds, in order of time. whole: speak everything by the vocoder in place of the
    gaps alone. speaker: a voice of the vocoder; None for the one that sounds most like the recording.
    Raises InputError: gaps that do not lie in the recording one after the other, or that are too long for the language
    model; AudioError: a recording that cannot be used; StackError: a stack without encoder or vocoder.
    """
    with_pitch = stack.voice.needs_f0  # asked first: it may refuse
    wave_N, rate = stack.read(audio), stack.quantizer.sample_rate
    spans = _spans(gaps_s, len(wave_N), rate)
    damaged_N = corrupted(wave_N, spans, inpainter.config.corruption)
    [heard] = stack.quantize([damaged_N], deduplicate=False, f0=with_pitch)
    gaps = gap_frames(spans, rate, stack.spec, len(heard))
    if any(start == stop for start, stop in gaps):
        raise AudioError(
            f"gap: expected one that touches one of the recording's {len(heard)} frames of "
            f"{1 / stack.spec.frame_rate:g} s, got one behind them; begin it earlier"
        )
    first, last = _window(gaps, len(heard), stack, inpainter)
    heard_F = heard.units[first:last]
    inner = tuple((start - first, stop - first) for start, stop in gaps)
    [filled_F] = inpainter([Damaged("", heard_F, heard_F, inner, spans)])
    frames_F = np.concatenate([heard.units[:first], filled_F, heard.units[last:]])
    regions = tuple(widened(gaps, len(heard), inpainter.config.guard))
    f0_F = None if heard.f0_hz is None else bridged_f0(heard, regions)
    speaker = speaker or own_voice(stack, damaged_N, heard, spans)
    units = UnitSequence(frames_F, stack.spec, f0_hz=f0_F)
    if whole:
        spoken_M = stack.voice.speak(units.deduplicate(), speaker).clip(-1, 1)
        return Inpainted(Recording(spoken_M[:, None], stack.vocoder.sample_rate, "PCM_16"), units, regions)
    part = replace(units, units=filled_F, f0_hz=None if f0_F is None else f0_F[first:last])
    mended = spliced(
        Recording(wave_N[:, None], rate, "FLOAT") if isinstance(audio, np.ndarray) else read_recording(audio),
        stack.voice.speak(part.deduplicate(), speaker),
        stack.vocoder.sample_rate,
        [(start / rate, stop / rate) for start, stop in spans],
        voice_from_s=first / stack.spec.frame_rate,
    )
    return Inpainted(mended, units, regions)


def spoken_gaps(
    stack: Stack, wave_N: Wave, damaged: Damaged, filled_F: np.ndarray, speaker: str | None = None
) -> Wave:
    """A damaged wave (N,) at the quantizer's rate with its gaps spoken, the rest as it was: (N,) float32.

    speaker: as in `inpaint_speech`.
    """
    rate, heard = stack.quantizer.sample_rate, heard_units(stack, damaged.heard, wave_N)
    f0_F = None if heard.f0_hz is None else bridged_f0(heard, damaged.gaps)
    speaker = speaker or own_voice(stack, wave_N, heard, damaged.spans)
    units = UnitSequence(filled_F, stack.spec, f0_hz=f0_F)
    spoken_M = stack.voice.speak(units.deduplicate(), speaker)
    gaps_s = [(start / rate, stop / rate) for start, stop in damaged.spans]
    recording = Recording(wave_N[:, None], rate, "FLOAT")
    mended_N: Wave = spliced(recording, spoken_M, stack.vocoder.sample_rate, gaps_s).samples_NC[:, 0]
    return mended_N


def heard_units(stack: Stack, frames_F: np.ndarray, wave_N: Wave) -> UnitSequence:
    """Units (F,) of every frame of a wave (N,), with their F0 where the stack's vocoder reads it."""
    heard = UnitSequence(frames_F, stack.spec)
    return with_f0(heard, wave_N, stack.quantizer.sample_rate) if stack.voice.needs_f0 else heard


def bridged_f0(heard: UnitSequence, regions: Sequence[Span]) -> np.ndarray:
    """F0 (F,) in Hz of what was heard; through regions straight between the voiced frames around them."""
    assert heard.f0_hz is not None
    bridged_F = heard.f0_hz.copy()
    for start, stop in regions:
        bridged_F[start:stop] = 0
    voiced = np.flatnonzero(bridged_F)
    known = bridged_F[voiced]
    for start, stop in regions:
        if len(voiced):
            bridged_F[start:stop] = np.interp(np.arange(start, stop), voiced, known)
    return bridged_F


def own_voice(stack: Stack, damaged_N: Wave, heard: UnitSequence, spans: Sequence[Span]) -> str | None:
    """The voice most like that of what is left of a damaged wave (N,). heard: unit of every frame of it."""
    left_N = damaged_N.copy()
    for start, stop in spans:
        left_N[start:stop] = 0
    return nearest_voice(stack, left_N, heard)


def _spans(gaps_s: Sequence[tuple[float, float]], n_samples: int, rate: int) -> tuple[Span, ...]:
    """Gaps in samples. Raises InputError where they are not in the recording, in order, with something around them."""
    seconds = n_samples / rate
    bounds = [time for gap in gaps_s for time in gap]
    in_order = all(earlier < later for earlier, later in pairwise(bounds))
    if not bounds or not in_order or bounds[0] < 0 or bounds[-1] > seconds:
        told = ", ".join(f"{start:g} to {stop:g} s" for start, stop in gaps_s) or "none"
        raise InputError(
            f"gap: expected a start before its end, both within the recording's {seconds:.2f} s, got {told}; "
            "correct the times"
        )
    spans = tuple((round(start * rate), min(round(stop * rate), n_samples)) for start, stop in gaps_s)
    if sum(stop - start for start, stop in spans) >= n_samples:
        raise InputError(
            f"gap: expected some speech around it, got one of all {seconds:.2f} s; choose a shorter gap"
        )
    return spans


def _window(gaps: Sequence[Span], n_frames: int, stack: Stack, inpainter: Inpainter) -> Span:
    """Frames around the gaps that the language model is shown."""
    first, last = gaps[0][0], gaps[-1][1]
    most = min(inpainter.prompted.max_source, inpainter.prompted.max_target) - _SPECIALS
    room, rate = (most - (last - first)) // 2, stack.spec.frame_rate
    if room < 1 + inpainter.config.guard:
        raise InputError(
            f"gap: expected gaps within {most / rate:.1f} s, which the language model reads at once, got "
            f"{(last - first) / rate:.1f} s from the first to the last; fill one after the other"
        )
    context = min(room, round(_CONTEXT_S * rate))
    return max(0, first - context), min(n_frames, last + context)
