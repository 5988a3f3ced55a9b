"""Units of the mini stack that are learned with the layer they are read from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from transformers import HubertConfig, HubertModel

from scripts.mini.corpus import Clip, PackedCorpus, pack
from scripts.mini.linear_codebook import as_centroids
from scripts.mini.perturbed_copies import perturbed_copies
from scripts.mini.unit_layer import LinearUnits, UnitBatch, UnitLayer, hard_units
from scripts.mini.unit_targets import (
    SourceTargets,
    frame_clusters,
    whitened,
    word_clusters,
    words_of_speaker,
)
from scripts.mini.unit_training import BY_SOURCE, BY_SPEAKER, UnitSettings, parts_of, train_units
from units.encoders.hubert import HubertEncoder
from units.kmeans import assign


def test_centroids_choose_as_the_linear_classifier_does() -> None:
    rng = np.random.default_rng(0)
    weight_KD, bias_K = rng.standard_normal((20, 32)), 5 * rng.standard_normal(20)
    x_ND = rng.standard_normal((5000, 32)).astype(np.float32)
    score_NK = x_ND @ weight_KD.T + bias_K
    best_N2 = np.sort(score_NK, axis=1)[:, -2:]
    clear_N = best_N2[:, 1] - best_N2[:, 0] > 1e-3  # float32 may turn a tie round
    unit_N = assign(torch.from_numpy(x_ND), torch.from_numpy(as_centroids(weight_KD, bias_K))).numpy()
    assert clear_N.mean() > 0.99
    np.testing.assert_array_equal(unit_N[clear_N], score_NK.argmax(1)[clear_N])


def test_learned_units_and_their_codebook_choose_alike() -> None:
    """Also where features are far from zero and vary unlike, as an encoder's do."""
    rng = np.random.default_rng(1)
    scale_D = np.geomspace(0.1, 10, 24)
    x_ND = (rng.standard_normal((4000, 24)) * scale_D + 5).astype(np.float32)
    units = LinearUnits(12, 24)
    units.begin(x_ND, seed=0)
    as_before = LinearUnits(12, 24)
    as_before.begin(x_ND, seed=1, codebook_KD=units.centroids())
    with torch.no_grad():
        first_N, again_N = (made(torch.from_numpy(x_ND)).argmax(1) for made in (units, as_before))
        assert (first_N == again_N).float().mean() > 0.99  # training goes on where a codebook left off
        units.bias_K += torch.randn(12, generator=torch.Generator().manual_seed(0))
        score_NK = units(torch.from_numpy(x_ND))
    best_N2 = score_NK.topk(2).values
    clear_N = best_N2[:, 0] - best_N2[:, 1] > 1e-2
    unit_N = assign(torch.from_numpy(x_ND), torch.from_numpy(units.centroids()))
    assert clear_N.float().mean() > 0.95
    assert torch.equal(unit_N[clear_N], score_NK.argmax(1)[clear_N])


def test_hard_units_are_one_hot_and_pass_gradients() -> None:
    torch.manual_seed(0)
    score_BTK = torch.randn(2, 5, 7, requires_grad=True)
    unit_BTK = hard_units(score_BTK)
    assert torch.equal(unit_BTK.detach().round(), unit_BTK.detach().round().clamp(0, 1))
    torch.testing.assert_close(unit_BTK.detach().sum(-1), torch.ones(2, 5))
    (unit_BTK * torch.randn(2, 5, 7)).sum().backward()
    assert score_BTK.grad is not None and (score_BTK.grad.abs() > 0).all()


def test_clusters_find_the_kinds_of_frames_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.mini.unit_targets.WORD_DIRECTIONS", 3)  # all that tells three words apart
    rng = np.random.default_rng(0)
    centre_KD = rng.standard_normal((4, 16)) * 4
    kinds = [[0, 1], [1, 0], [2, 3]]
    words = [kinds[i % 3] for i in range(120)]
    labels = [np.repeat(word, 9) for word in words]
    features = [centre_KD[label] + rng.standard_normal((18, 16)) for label in labels]
    white = whitened([f.astype(np.float32) for f in features], seed=0)
    found = np.concatenate(frame_clusters(white, 4, seed=0))
    for kind in range(4):
        assert (
            np.bincount(found[np.concatenate(labels) == kind]).max()
            > 0.95 * (np.concatenate(labels) == kind).sum()
        )
    for clusters in (word_clusters(white, 3, seed=0), words_of_speaker(white, 3)):
        assert len({(tuple(word), int(c)) for word, c in zip(words, clusters, strict=True)}) == 3


def test_a_group_by_speaker_is_a_part_for_each(corpus: PackedCorpus) -> None:
    fsdd = next(group for group in BY_SPEAKER if group.sources == ("fsdd",))
    clips = np.flatnonzero(np.asarray(corpus.sources) == "fsdd").tolist()
    parts = parts_of(corpus, fsdd, clips)
    assert sorted(clip for _, members in parts for clip in members) == clips
    assert [{corpus.speakers[clip] for clip in members} for _, members in parts] == [{"a"}, {"b"}]
    assert sum(part.share for part, _ in parts) == pytest.approx(fsdd.share)
    assert parts_of(corpus, BY_SOURCE[1], clips) == [(BY_SOURCE[1], clips)]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A HuBERT of random weights of the mini stack's structure."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16, 16, 16),
        conv_kernel=(20, 8, 8, 2),
        conv_stride=(10, 4, 4, 2),
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    HubertModel(config).save_pretrained(tmp_path / "hubert")
    return tmp_path / "hubert"


@pytest.fixture
def corpus(tmp_path: Path) -> PackedCorpus:
    """Chirps of two kinds in every group of sources, each 0.4 to 0.8 s."""
    rng = np.random.default_rng(0)
    clips = []
    for source in [source for group in BY_SOURCE for source in group.sources]:
        for number in range(24):
            t = np.arange(int(16_000 * rng.uniform(0.4, 0.8))) / 16_000
            low, high = (200, 2000) if number % 2 else (1500, 300)
            wave = 0.3 * np.sin(2 * np.pi * (low * t + (high - low) * t**2)) + 0.01 * rng.standard_normal(
                len(t)
            )
            path = tmp_path / f"{source}_{number}.wav"
            soundfile.write(path, wave, 16_000)
            clips.append(Clip(source, "ab"[number % 3 == 0], path))
    return pack(clips, tmp_path / "packed")


def test_a_perturbed_copy_says_which_clean_frame_each_of_its_frames_was(
    encoder: Path, corpus: PackedCorpus
) -> None:
    below = HubertEncoder(encoder, 1)
    clips = np.arange(10)
    copies = list(perturbed_copies(corpus, below, clips, seed=3))
    assert sorted(copied.clip for copied in copies) == clips.tolist()
    for copied in copies:
        n_clean = below.n_frames(len(corpus.wave(copied.clip)))
        frame_F = copied.clean_frame_F
        assert len(frame_F) == len(copied.state_FD) and frame_F[0] == 0 and frame_F[-1] < n_clean
        assert set(np.diff(frame_F)) <= {0, 1, 2}
        assert frame_F[-1] >= 0.9 * n_clean - 2  # the whole clip, whatever its speed
    again = list(perturbed_copies(corpus, below, clips, seed=3))
    for first, second in zip(copies, again, strict=True):
        np.testing.assert_array_equal(first.state_FD, second.state_FD)


@pytest.mark.parametrize("groups", [BY_SOURCE, BY_SPEAKER], ids=["by source", "by speaker"])
def test_training_units_moves_the_last_layer_only_and_lowers_the_loss(
    groups: tuple[SourceTargets, ...],
    encoder: Path,
    corpus: PackedCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = tuple(
        replace(group, n_frame_clusters=6, n_word_clusters=min(group.n_word_clusters, 2)) for group in groups
    )
    monkeypatch.setattr("scripts.mini.unit_targets.DIRECTIONS", 16)
    monkeypatch.setattr("scripts.mini.unit_targets.WORD_DIRECTIONS", 8)
    settings = UnitSettings(
        n_units=8,
        groups=small,
        target_layer=2,
        first_layer=2,
        last_layer=2,
        steps=100,
        batch=16,
        n_copies=1,
    )
    folder, centroids_KD = train_units(corpus, encoder, settings, tmp_path / "out")
    before, after = HubertModel.from_pretrained(encoder), HubertModel.from_pretrained(folder)
    assert len(after.encoder.layers) == 2
    for name, value in after.state_dict().items():
        moved = not torch.equal(value, before.state_dict()[name])
        assert moved == name.startswith("encoder.layers.1."), name
    rows = [
        [float(x) for x in line.split(",")] for line in (tmp_path / "out/log.csv").read_text().splitlines()
    ]
    assert rows[-1][1] < rows[0][1]  # frames
    assert centroids_KD.shape == (8, 32)


def test_a_clips_alternatives_are_clusters_of_its_own_group() -> None:
    """With one cluster a group nothing is left to tell: the loss is that of certainty."""
    torch.manual_seed(0)
    layer = HubertModel(
        HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    model = UnitLayer(nn.ModuleList(layer.encoder.layers), 5, 16, torch.tensor([0, 1]), torch.tensor([0, 1]))
    batch = UnitBatch(
        state_BTD=torch.randn(2, 6, 16),
        mask_BT=torch.ones(2, 6, dtype=torch.bool),
        frame_BT=torch.tensor([[0] * 6, [1] * 6]),
        frame_weight_B=torch.ones(2),
        word_B=torch.tensor([0, 1]),
    )
    _, figures = model(batch)
    assert figures["frame_loss"] == pytest.approx(0, abs=1e-6) and figures["word_loss"] == pytest.approx(
        0, abs=1e-6
    )
