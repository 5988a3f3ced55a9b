"""Unit error rate: how much of a message resynthesis keeps, read from units."""

from __future__ import annotations

from torchmetrics.functional.text import word_error_rate

from units.types import UnitSequence


def unit_error_rate(heard: UnitSequence, meant: UnitSequence) -> float:
    """Edit distance between deduplicated units, divided by the number of units meant; 0 is a perfect repetition."""
    texts = [" ".join(map(str, units.deduplicate().units.tolist())) for units in (heard, meant)]
    return float(word_error_rate(texts[0], texts[1]))
