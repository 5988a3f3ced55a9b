"""Continuations measured beside real speech and shuffled units: perplexity under another LM, auto-BLEU, VERT.

Of every recording a share is heard, and as much as is left of it is generated, so that both are equally long.

Shapes: T units, F frames.

Source: Lakhotia et al. 2021 (GSLM), section 4.3, there on transcripts under a text LM, here on units and, with a judge,
on transcripts too; the seed ratios of Wu et al. 2023 (SpeechGen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.decode import SamplingConfig
from speechprompt.generate.continuation import continue_speech
from speechprompt.generate.continuation_stream import DEFAULT_SAMPLING
from speechprompt.judge import Judge
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.perplexity import perplexity_measures
from speechprompt.stack import Stack
from speechprompt.tracked import tracked
from tasks.metrics.diversity import diversity_measures
from units.errors import InputError
from units.types import UnitSequence, Wave

PLAIN: Mapping[str, Prefix | None] = {"continuation": None}


@dataclass(frozen=True, eq=False)
class Told:
    """A seed and what follows. units: (T,) as the LM reads them. n_given: of the seed. rest: wave of what follows."""

    units: np.ndarray
    n_given: int
    rest: Wave


def measure_continuations(
    stack: Stack,
    recordings: Sequence[str | Path],
    held_out: UnitLM,
    *,
    seed_ratio: float = 0.5,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    judge: Judge | None = None,
    prefixes: Mapping[str, Prefix | None] = PLAIN,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Measures of what follows the seeds: "real", as recorded; "continuation"; "shuffled", recorded units in disorder.

    held_out: an LM of the stack's units that did not generate them. sampling: its seed is that of the first recording,
    one more for each. judge: also measures words, of all but "shuffled" (names with "words_"). prefixes: of prompts
    that were trained to continue, by the names of their rows; None is the plain language model. progress: show a bar.
    Returns, by row: `perplexity` of new units given the seed, `auto_bleu`, `self_bleu` and `vert` of new units, runs of
    one unit counted once, each with its 95% bootstrap interval, and n. Raises InputError: fewer than two recordings, an
    LM of other units.
    """
    if len(recordings) < 2:
        raise InputError(
            f"continuations: expected at least 2 recordings, got {len(recordings)}; give a folder of speech"
        )
    if held_out.vocab.n_units != stack.spec.n_units:
        raise InputError(
            f"held-out LM: expected one of {stack.spec.n_units} units as the stack has, got one of "
            f"{held_out.vocab.n_units}; train it on units of this codebook"
        )
    rng = np.random.default_rng(seed)
    real, shuffled = [], []
    made: dict[str, list[Told]] = {name: [] for name in prefixes}
    for number, path in enumerate(tracked(recordings, f"continuing from {seed_ratio}", progress=progress)):
        row, length_s = _recorded(stack, path, seed_ratio)
        real.append(row)
        chosen = replace(sampling, seed=sampling.seed + number)
        for name, prefix in prefixes.items():
            spoken = continue_speech(
                stack, path, seed_ratio=seed_ratio, length_s=length_s, sampling=chosen, prefix=prefix
            )
            boundary = round(spoken.boundary_s * spoken.sample_rate)
            made[name].append(Told(spoken.units.units, spoken.n_seed_units, spoken.wave[boundary:]))
        disorder = np.concatenate([row.units[: row.n_given], rng.permutation(row.units[row.n_given :])])
        shuffled.append(replace(row, units=disorder))
    measured = {}
    for name, rows in {"real": real, **made, "shuffled": shuffled}.items():
        measured[name] = _measures(rows, held_out, seed)
        if judge is not None and name != "shuffled":
            rate = stack.quantizer.sample_rate if name == "real" else stack.vocoder.sample_rate
            texts = [judge([row.rest], rate)[0].split() for row in rows]
            words = diversity_measures(texts, seed=seed)
            measured[name] |= {f"words_{key}": value for key, value in words.items()}
    return measured


def _recorded(stack: Stack, path: str | Path, seed_ratio: float) -> tuple[Told, float]:
    """A recording, and how many seconds of it follow the seed."""
    wave_N, rate = stack.read(path), stack.quantizer.sample_rate
    n_heard = max(1, round(seed_ratio * len(wave_N)))
    [frames] = stack.quantize([wave_N], deduplicate=False)
    n_frames = min(round(n_heard / rate * stack.spec.frame_rate), len(frames))
    if n_frames == len(frames):
        raise InputError(
            f"{path}: expected a recording of which something is left, got none; lower seed_ratio"
        )
    given, rest = (
        UnitSequence(part, stack.spec) for part in (frames.units[:n_frames], frames.units[n_frames:])
    )
    if stack.deduplicate:
        given, rest = given.deduplicate(), rest.deduplicate()
        if len(given) and len(rest) > 1 and given.units[-1] == rest.units[0]:
            rest = replace(rest, units=rest.units[1:], durations=None)
    units = np.concatenate([given.units, rest.units])
    return Told(units, len(given), wave_N[n_heard:]), (len(frames) - n_frames) / stack.spec.frame_rate


def _measures(rows: Sequence[Told], held_out: UnitLM, seed: int) -> dict[str, Any]:
    given = [row.n_given for row in rows]
    new = [_without_runs(row.units[row.n_given :]) for row in rows]
    return {
        "n": len(rows),
        **perplexity_measures(held_out, [row.units for row in rows], given=given, seed=seed),
        **diversity_measures(new, seed=seed),
    }


def _without_runs(units_T: np.ndarray) -> list[int]:
    kept_T = np.concatenate([[True], units_T[1:] != units_T[:-1]]) if len(units_T) else np.zeros(0, bool)
    return [int(unit) for unit in units_T[kept_T]]
