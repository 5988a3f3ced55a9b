"""The ways one recording is heard: played faster or slower, and with its frames cut at other places.

An encoder cuts a recording into frames from its first sample on, so where frames begin is chance: half a frame later,
22% of the units of the bundled digits are others (stack `mini`). Several views of a training recording show a prompt
that this means nothing, and what a prompt makes of several views of one recording, averaged, errs less than any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from units.pitch import with_f0
from units.types import Quantizer, UnitSequence

MAX_OFFSETS = 16  # of a frame; at 50 Hz 1.25 ms apart, where neighbours hardly differ


@dataclass(frozen=True, order=True)
class View:
    """How a recording is heard.

    speed: it is played so many times as fast, pitch included (as a tape would be). offset: silence before it, as a
    share of a frame in [0, 1).
    """

    speed: float = 1.0
    offset: float = 0.0


AS_IS = View()


def offset_views(n_offsets: int, speeds: Sequence[float] = (1.0,)) -> tuple[View, ...]:
    """At every speed, offsets spread evenly over one frame; the recording as it is comes first at speed 1."""
    return tuple(View(speed, index / n_offsets) for speed in speeds for index in range(n_offsets))


class ViewQuantizer:
    """A quantizer of recordings as one view has them; with `f0` also of their F0, as it is heard there."""

    def __init__(self, quantizer: Quantizer, view: View, f0: bool = False) -> None:
        self.quantizer, self.view, self.f0 = quantizer, view, f0
        self.spec, self.sample_rate = quantizer.spec, quantizer.sample_rate

    def __call__(self, waves: Sequence[np.ndarray]) -> list[UnitSequence]:
        """Quantize waves (n_samples,) float32; at speed s one is resampled to n_samples / s."""
        heard = [self._heard(wave) for wave in waves]
        sequences = self.quantizer(heard)
        if self.f0:
            return [with_f0(*pair, self.sample_rate) for pair in zip(sequences, heard, strict=True)]
        return sequences

    def _heard(self, wave_N: np.ndarray) -> np.ndarray:
        rate, view = self.sample_rate, self.view
        if view.speed != 1.0:
            wave_N = soxr.resample(wave_N, rate * view.speed, rate, quality="HQ")
        n_silent = round(view.offset * rate / self.spec.frame_rate)
        return np.pad(wave_N, (n_silent, 0)) if n_silent else wave_N


def view_quantizer(quantizer: Quantizer, view: View, *, f0: bool = False) -> Quantizer:
    """The quantizer for a view, with F0 or without; the very one where that changes nothing."""
    return quantizer if view == AS_IS and not f0 else ViewQuantizer(quantizer, view, f0)


def mean_over_views(logits_MC: Tensor, n_views: int) -> Tensor:
    """Log-probabilities of recordings heard `n_views` times each: the mean of the views' ones, normalised again.

    logits_MC: scores (n_views * N, C), all recordings in one view, then in the next. Returns (N, C) float32.
    """
    log_p_VNC = logits_MC.float().log_softmax(-1).unflatten(0, (n_views, -1))
    mean_NC = log_p_VNC[0] if n_views == 1 else torch.log_softmax(log_p_VNC.mean(0), -1)
    return mean_NC
