"""Crops, perturbations and guided units of the mini stack's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from scripts.mini.corpus import Clip, pack
from scripts.mini.crops import CropSampler
from scripts.mini.guided_units import GuidedUnits
from scripts.mini.perturbation import low_pass
from scripts.mini.phones import Phones
from scripts.mini.targets import HOP, Targets, frame_starts


@pytest.fixture
def sampler(tmp_path: Path) -> CropSampler:
    """Clips whose samples tell their frame's number, as do the targets."""
    clips = []
    for number, n_frames in enumerate((40, 15, 90)):
        wave = np.repeat(np.arange(n_frames) / 128, HOP).astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000, subtype="FLOAT")
        clips.append(Clip("s", "s", tmp_path / f"{number}.wav"))
    corpus = pack(clips, tmp_path / "packed")
    starts = frame_starts(corpus.starts)
    labels = np.concatenate([np.arange(n, dtype=np.int16) for n in np.diff(starts)])
    spoken = labels.copy()
    spoken[starts[1] : starts[2]] = -1
    phones = Phones(Targets(spoken, starts), np.zeros(90, np.int64))
    return CropSampler(corpus, Targets(labels, starts), (("s", 1.0),), (0.5,), 4.0, False, 0, phones)


def test_a_crop_keeps_every_frame_with_its_label(sampler: CropSampler) -> None:
    batch = sampler.draw(3)
    assert batch.phone_BT is not None
    middles = torch.arange(batch.cluster_BT.shape[1]) * HOP + HOP // 2 + 105  # of the receptive field
    heard_BT = (batch.wave_BS[:, middles] * 128).round().long()
    assert (heard_BT - batch.cluster_BT).abs().max() <= 1
    known_BT = batch.phone_BT >= 0
    assert torch.equal(batch.phone_BT[known_BT], batch.cluster_BT[known_BT])
    again = sampler.draw(3)
    assert torch.equal(batch.wave_BS, again.wave_BS) and torch.equal(batch.cluster_BT, again.cluster_BT)


def test_low_pass_takes_the_upper_band_of_some_rows_only() -> None:
    wave_BS = torch.randn(64, 16_000, generator=torch.Generator().manual_seed(0))
    passed_BS = low_pass(wave_BS, torch.Generator().manual_seed(1))
    upper_B = torch.fft.rfft(passed_BS)[:, 4200:].abs().pow(2).mean(1)
    before_B = torch.fft.rfft(wave_BS)[:, 4200:].abs().pow(2).mean(1)
    cut_B = upper_B < 1e-3 * before_B
    assert 4 <= cut_B.sum() <= 32
    lower_B = (torch.fft.rfft(passed_BS)[:, :3200] - torch.fft.rfft(wave_BS)[:, :3200]).abs().max()
    assert lower_B < 1e-2


def test_guided_units_learn_to_tell_phones_and_clusters() -> None:
    """Features of four kinds, each with its phone and cluster: units must tell them apart, and all be used."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    kind_BT = torch.randint(4, (8, 50), generator=generator)
    centre_KD = torch.randn(4, 16, generator=generator) * 3
    feature_BTD = centre_KD[kind_BT] + torch.randn(8, 50, 16, generator=generator)
    phone_BT = torch.where(torch.rand(8, 50, generator=generator) < 0.3, -1, kind_BT)
    units = GuidedUnits(8, 16, 4, torch.tensor([0, 0, 1, 1]))
    optimizer = torch.optim.Adam(units.parameters(), lr=3e-2)
    for _ in range(150):
        loss, figures = units(feature_BTD, 3 - kind_BT, phone_BT)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert figures["unit_phone_accuracy"] > 0.95
    assert figures["unit_cluster_accuracy"] > 0.95
    assert figures["unit_perplexity"] > 4
