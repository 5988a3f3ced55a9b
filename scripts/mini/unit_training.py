"""Train the last layers of the encoder, and the units read from them, on perturbed copies of real speech."""

from __future__ import annotations

import copy
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import HubertModel

from scripts.mini.clustering import layer_features
from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus
from scripts.mini.perturbed_copies import PerturbedCopy, perturbed_copies
from scripts.mini.unit_layer import UnitBatch, UnitLayer
from scripts.mini.unit_targets import (
    SourceTargets,
    frame_clusters,
    whitened,
    word_clusters,
    words_of_speaker,
)
from units.atomic import atomic_dir
from units.encoders.hubert import HubertEncoder

SHORTEST_S = 0.2  # clips that are shorter have too few frames to be a word
_READ = SourceTargets(
    ("read_sentences", "librispeech_9"), n_frame_clusters=200, n_word_clusters=0, frame_weight=1.0, share=0.05
)
BY_SOURCE = (
    SourceTargets(("arabic_sc",), n_frame_clusters=400, n_word_clusters=200, frame_weight=1.0, share=0.45),
    SourceTargets(("fsdd",), n_frame_clusters=300, n_word_clusters=100, frame_weight=2.0, share=0.5),
    _READ,
)
BY_SPEAKER = (
    SourceTargets(
        ("arabic_sc",),
        n_frame_clusters=80,
        n_word_clusters=56,
        frame_weight=1.0,
        share=0.45,
        by_speaker=True,
    ),
    SourceTargets(
        ("fsdd",), n_frame_clusters=80, n_word_clusters=20, frame_weight=2.0, share=0.5, by_speaker=True
    ),
    _READ,
)


@dataclass(frozen=True)
class UnitSettings:
    """What is tried out.

    groups: whose clips are drawn, and what is clustered. word_weight: of the loss on words, beside that on frames.
    target_layer: of the encoder as it was, clustered into targets; first_layer, last_layer: trained (1-based), units
    are read from the last; n_copies: perturbed copies of each clip; n_frames: longest crop.
    """

    n_units: int = 100
    groups: tuple[SourceTargets, ...] = BY_SOURCE
    word_weight: float = 0.5
    target_layer: int = 5
    first_layer: int = 5
    last_layer: int = 5
    steps: int = 400
    batch: int = 48
    n_frames: int = 100
    n_copies: int = 2
    learning_rate: float = 1e-3
    unit_learning_rate: float = 3e-3
    teller_learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Taught:
    """Copies of one group's clips with what their units are to tell.

    frames, words: clusters of the clips in `copies`' corpus, by clip; numbered on from those of the groups before.
    """

    group: SourceTargets
    copies: list[PerturbedCopy]
    frames: dict[int, np.ndarray]
    words: dict[int, int]


def teach(corpus: PackedCorpus, folder: Path, settings: UnitSettings) -> list[Taught]:
    """Cluster the clean clips of every group by the features of ``target_layer``, and perturb copies of them."""
    top = layer_features(HubertEncoder(folder, settings.target_layer, dtype=torch.bfloat16))
    below = HubertEncoder(folder, settings.first_layer - 1, dtype=torch.bfloat16)
    names, lengths_s = np.asarray(corpus.sources), np.diff(corpus.starts) / SAMPLE_RATE
    taught: list[Taught] = []
    for group in settings.groups:
        clips = np.flatnonzero(np.isin(names, group.sources) & (lengths_s >= SHORTEST_S))
        clean = dict(top(corpus, clips))
        features = dict(zip(clean, whitened(list(clean.values()), settings.seed), strict=True))
        copies = [
            copied
            for number in range(settings.n_copies)
            for copied in perturbed_copies(corpus, below, clips, settings.seed * 1_009 + number)
        ]
        for part, members in parts_of(corpus, group, list(features)):
            taught.append(_taught(part, {clip: features[clip] for clip in members}, copies, taught, settings))
    return taught


def parts_of(
    corpus: PackedCorpus, group: SourceTargets, clips: list[int]
) -> list[tuple[SourceTargets, list[int]]]:
    """A group with its clips, or where it is taken by speaker, every speaker's part of it with theirs."""
    if not group.by_speaker:
        return [(group, clips)]
    of_speaker: dict[str, list[int]] = {}
    for clip in clips:
        of_speaker.setdefault(corpus.speakers[clip], []).append(clip)
    part = replace(group, share=group.share / len(of_speaker))
    return [(part, members) for _, members in sorted(of_speaker.items())]


def _taught(
    part: SourceTargets,
    features: dict[int, np.ndarray],
    copies: list[PerturbedCopy],
    before: list[Taught],
    settings: UnitSettings,
) -> Taught:
    """Cluster one part's clips; clusters are numbered on from those of the parts before."""
    first_frame = sum(earlier.group.n_frame_clusters for earlier in before)
    first_word = sum(earlier.group.n_word_clusters for earlier in before)
    rows = list(features.values())
    frames = frame_clusters(rows, part.n_frame_clusters, settings.seed)
    words = np.full(len(rows), -1)
    if part.n_word_clusters and part.by_speaker:
        words = first_word + words_of_speaker(rows, part.n_word_clusters)
    elif part.n_word_clusters:
        words = first_word + word_clusters(rows, part.n_word_clusters, settings.seed)
    frames_of = {clip: first_frame + found for clip, found in zip(features, frames, strict=True)}
    words_of = dict(zip(features, words.tolist(), strict=True))
    return Taught(part, [copied for copied in copies if copied.clip in features], frames_of, words_of)


def draw(taught: list[Taught], settings: UnitSettings, step: int) -> UnitBatch:
    """Batch of ``step``; the same at every call."""
    rng = np.random.default_rng((settings.seed, step))
    shares = np.asarray([part.group.share for part in taught])
    states, frames, weights, words = [], [], [], []
    for index in rng.choice(len(taught), size=settings.batch, p=shares / shares.sum()):
        part = taught[int(index)]
        copied = part.copies[int(rng.integers(len(part.copies)))]
        first = int(rng.integers(max(0, len(copied.state_FD) - settings.n_frames) + 1))
        crop = slice(first, first + settings.n_frames)
        states.append(torch.from_numpy(copied.state_FD[crop]).float())
        frames.append(torch.from_numpy(part.frames[copied.clip][copied.clean_frame_F[crop]]).long())
        weights.append(part.group.frame_weight)
        words.append(part.words[copied.clip])
    frame_BT = pad_sequence(frames, batch_first=True, padding_value=-1)
    return UnitBatch(
        state_BTD=pad_sequence(states, batch_first=True),
        mask_BT=frame_BT >= 0,
        frame_BT=frame_BT,
        frame_weight_B=torch.tensor(weights),
        word_B=torch.tensor(words),
    )


def groups_of_clusters(sizes: list[int]) -> torch.Tensor:
    """Group of every cluster, (sum of sizes,) int64."""
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def begin(
    hubert: HubertModel, taught: list[Taught], settings: UnitSettings, codebook_KD: np.ndarray | None
) -> UnitLayer:
    """The encoder's own layers, and units begun from a codebook or k-means of what they make of some batches."""
    layers = copy.deepcopy(hubert.encoder.layers[settings.first_layer - 1 : settings.last_layer])
    model = UnitLayer(
        nn.ModuleList(layers),
        settings.n_units,
        hubert.config.hidden_size,
        groups_of_clusters([part.group.n_frame_clusters for part in taught]),
        groups_of_clusters([part.group.n_word_clusters for part in taught]),
        settings.word_weight,
    )
    drawn = []
    with torch.no_grad():
        for step in range(30):
            batch = draw(taught, settings, 2**31 - 1 - step)  # batches that no training step draws
            drawn.append(model.features(batch.state_BTD, batch.mask_BT)[batch.mask_BT].numpy())
    model.units.begin(np.concatenate(drawn), settings.seed, codebook_KD)
    return model


def train_units(
    corpus: PackedCorpus,
    folder: Path,
    settings: UnitSettings,
    out: Path,
    codebook_KD: np.ndarray | None = None,
) -> tuple[Path, np.ndarray]:
    """Folder of the encoder with its last layers trained on, which ends at ``last_layer``, and the codebook (K, D).

    corpus: of which real speech is used. folder: transformers folder of the encoder so far. out: for encoder and log.
    codebook_KD: units to go on with; None to begin with k-means.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    hubert = HubertModel.from_pretrained(folder).float()
    taught = teach(corpus, folder, settings)
    model = begin(hubert, taught, settings, codebook_KD)
    rates = [settings.learning_rate, settings.unit_learning_rate, settings.teller_learning_rate]
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.layers.parameters()), "weight_decay": 0.01},
            {"params": list(model.units.parameters()), "weight_decay": 0.0},
            {"params": [*model.frames.parameters(), *model.words.parameters()], "weight_decay": 0.01},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=settings.steps, pct_start=0.1
    )
    model.train()
    with Progress() as progress, (out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        bar = progress.add_task("units", total=settings.steps)
        recent: list[list[float]] = []
        for step in range(settings.steps):
            loss, figures = model(draw(taught, settings, step))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*model.layers.parameters(), *model.units.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            recent.append(list(figures.values()))
            progress.advance(bar)
            if (step + 1) % 50 == 0:
                log.writerow([step + 1, *(f"{mean:.4f}" for mean in np.mean(recent, axis=0))])
                file.flush()
                recent.clear()
    below = hubert.encoder.layers[: settings.first_layer - 1]
    hubert.encoder.layers = nn.ModuleList([*below, *model.layers])
    hubert.config.num_hidden_layers = settings.last_layer
    with atomic_dir(out / "encoder") as temporary:
        hubert.save_pretrained(temporary)
    return out / "encoder", model.units.centroids()
