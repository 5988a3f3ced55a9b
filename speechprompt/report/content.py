"""What a report shows, as plain data: whoever has results fills these, and `write_report` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from units.types import UnitSequence


@dataclass(frozen=True)
class Score:
    """One method's result on the held-out clips.

    name, note: what it is, and in a few words how it works. accuracy, macro_f1: 0 to 1.
    interval_95: bootstrap interval of the accuracy.
    trainable_parameters: None where the notion does not apply.
    ours: True sets the row apart from the baselines.
    """

    name: str
    note: str
    accuracy: float
    interval_95: tuple[float, float]
    macro_f1: float
    trainable_parameters: int | None = None
    ours: bool = False


@dataclass(frozen=True)
class Curve:
    """One line of a chart. x, y: equally long. mark: index of the point that was kept, ringed."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: int | None = None


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound: heard, seen, and read as units.

    wave: (n_samples,) float32 at sample_rate Hz. units: of this sound. caption: one sentence.
    boundary_s: where a continuation starts. guesses: (label, probability), the most likely first.
    right: whether the first guess is the true label; None where there is none.
    """

    title: str
    caption: str
    wave: np.ndarray
    sample_rate: int
    units: UnitSequence
    boundary_s: float | None = None
    guesses: Sequence[tuple[str, float]] = ()
    right: bool | None = None


@dataclass(frozen=True)
class ClipSection:
    """A heading, a paragraph, and its clips; `narrow` clips share a row."""

    title: str
    lead: str
    clips: Sequence[Clip]
    narrow: bool = False


@dataclass(frozen=True, eq=False)
class Report:
    """All of one report.

    title, summary: the headline and its one sentence. facts: (value, what it is), the figures to see first.
    scores: the method beside its baselines. labels, confusion: (n_labels, n_labels) counts, rows true.
    curves: charts of the training, each (title, is it percentages, its curves).
    trainable_parameters, frozen_parameters: counts. sections: sounds.
    steps: what was done, in order. commands: how to repeat it. details: names and values to cite.
    colours: "#rrggbb" per unit id.
    """

    title: str
    summary: str
    facts: Sequence[tuple[str, str]]
    scores: Sequence[Score]
    labels: Sequence[str]
    confusion: np.ndarray
    curves: Sequence[tuple[str, bool, Sequence[Curve]]]
    trainable_parameters: int
    frozen_parameters: int
    sections: Sequence[ClipSection]
    steps: Sequence[str]
    commands: Sequence[str]
    colours: list[str]
    details: Mapping[str, str] = field(default_factory=dict)
