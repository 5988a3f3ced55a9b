"""Perturbed copies of clips as the layers below the units hear them, frame by frame beside the clean clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from scripts.mini.corpus import PackedCorpus
from scripts.mini.perturbation import change_speed, draw_speed, perturb
from units.encoders.hubert import HubertEncoder


@dataclass(frozen=True)
class PerturbedCopy:
    """One copy of a clip.

    clip: index in the corpus. state_FD: (F, D) float16, a layer's output. clean_frame_F: (F,) int64, the frame of the
    clean clip that each frame was.
    """

    clip: int
    state_FD: np.ndarray
    clean_frame_F: np.ndarray


def perturbed_copies(
    corpus: PackedCorpus, encoder: HubertEncoder, clips: np.ndarray, seed: int
) -> Iterator[PerturbedCopy]:
    """One copy of every clip, each with a speed, filter, noise and band of its own, as the encoder was trained on."""
    generator = torch.Generator().manual_seed(seed)
    for batch in corpus.batches(clips, max_batch_s=60.0):
        waves, speeds = [], []
        for clip in batch:
            wave_1S = torch.from_numpy(corpus.wave(int(clip)))[None]
            speeds.append(draw_speed(generator))
            faster_1S = change_speed(wave_1S, int(wave_1S.shape[1] / speeds[-1]))
            waves.append(perturb(faster_1S, generator)[0].numpy())
        with torch.inference_mode():
            states_BFD, n_frames_B = encoder.encode(waves)
        for clip, speed, states_FD, n_frames in zip(batch, speeds, states_BFD, n_frames_B, strict=True):
            n_clean = encoder.n_frames(int(corpus.starts[clip + 1] - corpus.starts[clip]))
            clean_F = np.round(np.arange(int(n_frames)) * speed).astype(np.int64)
            known_F = clean_F < n_clean
            yield PerturbedCopy(int(clip), states_FD[:n_frames].half().numpy()[known_F], clean_F[known_F])
