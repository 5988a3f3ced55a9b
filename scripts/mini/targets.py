"""What an encoder is trained to predict: one label for every 20 ms of every clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HOP = 320  # samples a frame


@dataclass(frozen=True)
class Targets:
    """One flat array of labels, clip behind clip; -1 where nothing is known.

    labels: (n_frames,) int16 of the whole corpus; starts: (n_clips + 1,) int64, where each clip begins.
    """

    labels: np.ndarray
    starts: np.ndarray

    def known(self) -> np.ndarray:
        """(n_clips,) bool: which clips were labelled."""
        return self.labels[self.starts[:-1]] >= 0

    def of(self, clip: int) -> np.ndarray:
        """(n_frames,) int16 of one clip."""
        return self.labels[self.starts[clip] : self.starts[clip + 1]]


def frame_starts(wave_starts: np.ndarray) -> np.ndarray:
    """Where each clip's labels begin, (n_clips + 1,) int64, from where its samples begin."""
    return np.concatenate([[0], np.cumsum(-(-np.diff(wave_starts) // HOP))])
