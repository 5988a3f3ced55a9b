"""How many frames each wave of a batch gives, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from units.errors import AudioError
from units.types import Encoder


def frame_counts(encoder: Encoder, waves: Sequence[np.ndarray]) -> Tensor:
    """Frames of B waves, each (n_samples,): (B,) int64. Raises AudioError where a wave gives not a single frame."""
    counts_B = torch.tensor([encoder.n_frames(len(wave)) for wave in waves], dtype=torch.int64)
    if len(waves) == 0 or int(counts_B.min()) == 0:
        shortest_s = min((len(wave) for wave in waves), default=0) / encoder.sample_rate
        raise AudioError(
            f"wave: expected waves of at least one frame for encoder {encoder.name}, got {len(waves)} waves, "
            f"the shortest of {shortest_s * 1000:.1f} ms; use longer audio"
        )
    return counts_B
