"""Random crops of speech with what they are to be predicted as, perturbed, in batches of one length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus
from scripts.mini.perturbation import change_speed, draw_speed, perturb
from scripts.mini.phones import Phones
from scripts.mini.targets import HOP, Targets

# B batch, T frames, S samples.

RECEPTIVE_FIELD = 530  # samples, of the encoder's convolutions


@dataclass(frozen=True)
class Batch:
    """wave_BS: float32; cluster_BT: int64; phone_BT: int64, -1 where unknown, None where no phones are trained."""

    wave_BS: Tensor
    cluster_BT: Tensor
    phone_BT: Tensor | None


class CropSampler:
    """Random crops with their targets; short clips of one source are strung together."""

    def __init__(
        self,
        corpus: PackedCorpus,
        targets: Targets,
        mix: tuple[tuple[str, float], ...],
        crops_s: tuple[float, ...],
        batch_s: float,
        perturbed: bool,
        seed: int,
        phones: Phones | None = None,
    ) -> None:
        self.corpus, self.targets, self.phones = corpus, targets, phones
        self.crops_s, self.batch_s, self.perturbed, self.seed = crops_s, batch_s, perturbed, seed
        names = np.asarray(corpus.sources)
        known = targets.known() | (phones.targets.known() if phones is not None else False)
        self.clips = {name: np.flatnonzero((names == name) & known) for name, _ in mix}
        shares = np.asarray([share for name, share in mix if len(self.clips[name])])
        self.names = [name for name, _ in mix if len(self.clips[name])]
        self.shares = shares / shares.sum()

    def _string(
        self, source: str, n_samples: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n_samples,) of one source, and cluster and phone at every sample's frame, (ceil(n / 320),) each."""
        waves: list[np.ndarray] = []
        clusters: list[np.ndarray] = []
        phones: list[np.ndarray] = []
        missing = n_samples
        while missing > 0:
            clip = int(rng.choice(self.clips[source]))
            wave, frames = self.corpus.wave(clip), self.targets.of(clip)
            spare_frames = max(0, (len(wave) - missing) // HOP)
            first = int(rng.integers(spare_frames + 1)) if not waves else 0
            n_whole = (len(wave) - first * HOP) // HOP  # whole frames, so that strung targets stay aligned
            waves.append(wave[first * HOP : (first + n_whole) * HOP])
            clusters.append(frames[first : first + n_whole])
            if self.phones is not None:
                phones.append(self.phones.targets.of(clip)[first : first + n_whole])
            missing -= n_whole * HOP
        spoken = np.concatenate(phones) if phones else np.zeros(0, np.int16)
        return np.concatenate(waves)[:n_samples], np.concatenate(clusters), spoken

    def draw(self, step: int) -> Batch:
        """Batch of ``step``; the same at every call."""
        rng = np.random.default_rng((self.seed, step))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        crop_s = float(rng.choice(self.crops_s))
        n_samples = int(crop_s * SAMPLE_RATE)
        n_frames = (n_samples - RECEPTIVE_FIELD) // HOP + 1
        centres = np.arange(n_frames) * HOP + RECEPTIVE_FIELD / 2
        waves, clusters, phones = [], [], []
        for _ in range(max(1, round(self.batch_s / crop_s))):
            speed = draw_speed(generator) if self.perturbed else 1.0
            source = str(rng.choice(self.names, p=self.shares))
            wave, labels, spoken = self._string(source, int(n_samples * speed), rng)
            waves.append(change_speed(torch.from_numpy(wave)[None], n_samples))
            at = np.minimum((centres * speed / HOP).astype(np.int64), len(labels) - 1)
            clusters.append(labels[at])
            if self.phones is not None:
                phones.append(spoken[at])
        wave_BS = torch.cat(waves)
        if self.perturbed:
            wave_BS = perturb(wave_BS, generator)
        phone_BT = torch.from_numpy(np.stack(phones).astype(np.int64)) if phones else None
        return Batch(wave_BS, torch.from_numpy(np.stack(clusters).astype(np.int64)), phone_BT)
