"""Units that follow a seed, given out as soon as nothing that comes later can change them.

Shapes: T units, n of them new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from speechprompt.decode import SamplingConfig, stream
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from units.errors import InputError
from units.types import UnitSequence
from vocoder.base import UnitVocoder

_NEVER = 1e9  # a repetition penalty that no unit survives


@dataclass(frozen=True, eq=False)
class Grown:
    """New units. units, durations: (n,) int64, n at least 1. f0: (n,) float32, normalised, where the LM says it."""

    units: np.ndarray
    durations: np.ndarray
    f0: np.ndarray | None = None


def growing_frames(
    lm: UnitLM,
    seed: UnitSequence,
    *,
    length_s: float,
    sampling: SamplingConfig,
    prefix: Prefix | None = None,
) -> Iterator[Grown]:
    """Yield `length_s` of units after `seed`, one for every frame, one by one.

    For an LM that was trained on such units. prefix: of a deep prompt. Raises InputError, when called, for more than it
    has positions for.
    """
    n_wanted = n_frames(length_s, seed)
    if len(seed) + n_wanted > lm.max_positions:
        raise InputError(
            f"length_s: expected at most {lm.max_positions} units with those heard before, got {len(seed)} and "
            f"{n_wanted} more; ask for less or hear less"
        )
    config = replace(sampling, max_units=n_wanted, min_units=n_wanted, allow_end=False)
    steps = stream(lm, [seed.units], config, prefix=prefix)
    return (Grown(unit_1, np.ones(1, dtype=np.int64)) for unit_1 in steps)


def growing_units(
    lm: UnitLM,
    vocoder: UnitVocoder,
    seed: UnitSequence,
    *,
    length_s: float,
    sampling: SamplingConfig,
    prefix: Prefix | None = None,
) -> Iterator[Grown]:
    """Yield units after `seed` until their predicted durations reach `length_s`; the last is cut to meet it.

    seed: deduplicated. prefix: of a deep prompt. No unit follows itself, as in training data: it cannot be drawn, or,
    where `sampling` has a repetition penalty of its own, it is left out. A unit comes once every unit that its duration
    depends on is known.
    Raises InputError: a vocoder without durations; at the end of the LM's positions, if that is too early.
    """
    predictor = vocoder.generator.config.dur_predictor_params
    n_wanted = n_frames(length_s, seed)
    n_free = lm.max_positions - len(seed)
    config = replace(sampling, max_units=max(1, min(2 * n_wanted, n_free)), min_units=0, allow_end=False)
    if sampling.repetition_penalty == 1:
        config = replace(config, repetition_penalty=_NEVER, repetition_window=1)
    units = seed.units.tolist()
    known = np.empty(0, dtype=np.int64)  # durations given out
    for [unit] in stream(lm, [seed.units], config, prefix=prefix):
        if units and unit == units[-1]:
            continue
        units.append(int(unit))
        frames = predicted_frames(vocoder, np.array(units))[len(seed) :]
        frames[: len(known)] = known
        ends, n_known = frames.cumsum(), len(known)
        done = ends[-1] >= n_wanted
        if done:
            n_new = int(np.searchsorted(ends, n_wanted)) + 1  # a later unit can lengthen those before it
            frames[n_new - 1] -= ends[n_new - 1] - n_wanted
        else:
            assert predictor is not None  # predicted_frames has asked
            n_new = max(n_known, len(frames) - predictor.reach)
        known = frames[:n_new]
        if n_new > n_known:
            place = len(seed)
            yield Grown(np.array(units[place + n_known : place + n_new]), known[n_known:])
        if done:
            return
    raise InputError(
        f"length_s: expected new speech for which {config.max_units} more units suffice, got {length_s:g} s; "
        f"the language model reads {lm.max_positions} units in all, so ask for less or hear less"
    )


def predicted_frames(vocoder: UnitVocoder, units: np.ndarray) -> np.ndarray:
    """Frames that the vocoder would give to each of deduplicated units (T,): (T,) int64, each at least 1.

    Raises InputError where it has no duration predictor.
    """
    if vocoder.generator.config.dur_predictor_params is None:
        raise InputError("vocoder: expected one that predicts durations, got one without; use another stack")
    units_BT = torch.from_numpy(units).to(vocoder.device)[None]
    with torch.inference_mode():
        frames: np.ndarray = vocoder.generator.predict_durations(units_BT)[0].cpu().numpy()
    return frames


def n_frames(length_s: float, seed: UnitSequence) -> int:
    """Frames of new speech that are asked for: at least one."""
    return max(1, round(length_s * seed.spec.frame_rate))


def joined(seed: UnitSequence, grown: list[Grown]) -> UnitSequence:
    """Seed and what follows it, with durations, without F0."""
    given = seed.durations if seed.durations is not None else np.ones(len(seed), dtype=np.int64)
    return replace(
        seed,
        units=np.concatenate([seed.units, *(part.units for part in grown)]),
        durations=np.concatenate([given, *(part.durations for part in grown)]),
        f0_hz=None,
    )
