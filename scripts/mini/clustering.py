"""Clusters as training targets: of cepstra for the first iteration, of a layer's features for the second."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import torch
from rich.progress import track

from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus
from scripts.mini.hubert_pretraining import HubertSettings
from scripts.mini.mfcc import mfcc
from scripts.mini.targets import Targets, frame_starts
from units.atomic import atomic_path
from units.encoders.hubert import HubertEncoder
from units.kmeans import assign, fit_codebook

Features = Callable[[PackedCorpus, np.ndarray], Iterator[tuple[int, np.ndarray]]]


def mfcc_features(corpus: PackedCorpus, clips: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(clip, (n_frames, 39) float32) for each of ``clips``, in their order."""
    jobs = (joblib.delayed(mfcc)(corpus.wave(int(clip))) for clip in clips)
    features = joblib.Parallel(n_jobs=2, return_as="generator", batch_size=32)(jobs)
    yield from zip((int(clip) for clip in clips), features, strict=True)


def layer_features(encoder: HubertEncoder) -> Features:
    """A function like ``mfcc_features`` that gives the encoder's layer, (n_frames, D)."""

    def features(corpus: PackedCorpus, clips: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for batch in corpus.batches(clips, max_batch_s=60.0):
            with torch.inference_mode():
                features_BFD, n_frames_B = encoder.encode([corpus.wave(int(clip)) for clip in batch])
            for clip, features_FD, n_frames in zip(batch, features_BFD, n_frames_B, strict=True):
                yield int(clip), features_FD[:n_frames].float().numpy()

    return features


def draw_clips(corpus: PackedCorpus, settings: HubertSettings, seconds: float, seed: int) -> np.ndarray:
    """Clips for fitting a codebook, sources in the proportions of ``settings.mix``."""
    rng = np.random.default_rng(seed)
    lengths_s = np.diff(corpus.starts) / SAMPLE_RATE
    names = np.asarray(corpus.sources)
    chosen: list[int] = []
    for name, share in settings.mix:
        order = rng.permutation(np.flatnonzero(names == name))
        within = np.cumsum(lengths_s[order]) <= share * seconds
        chosen.extend(order[within])
    return rng.permutation(np.asarray(chosen))


def draw_frames(
    corpus: PackedCorpus, features: Features, settings: HubertSettings, seconds: float
) -> np.ndarray:
    """Shuffled frames (F, D) float32 of about ``seconds`` of speech in the proportions of ``settings.mix``."""
    clips = draw_clips(corpus, settings, seconds, settings.seed)
    stacked = np.concatenate([values for _, values in features(corpus, clips)])
    np.random.default_rng(settings.seed).shuffle(stacked)
    return stacked


def fit_clusters(
    corpus: PackedCorpus,
    features: Features,
    n_clusters: int,
    settings: HubertSettings,
    seconds: float = 3000.0,
) -> np.ndarray:
    """Centroids (n_clusters, D) float32 of features of about ``seconds`` of speech."""
    stacked = draw_frames(corpus, features, settings, seconds)
    return fit_codebook(
        np.array_split(stacked, max(1, len(stacked) // 10_000)), n_clusters, seed=settings.seed
    )


def label_corpus(
    corpus: PackedCorpus,
    features: Features,
    path: Path,
    settings: HubertSettings,
    max_hours: float = math.inf,
) -> Targets:
    """Fit `settings.n_targets` clusters and label every 20 ms, kept in `path` (npz) and read from there the next time.

    At most `max_hours` of each source are labelled, -1 stands for the rest: labelling by an encoder costs about as
    much as training on the same audio once.
    """
    starts = frame_starts(corpus.starts)
    if path.exists():
        return Targets(np.load(path)["labels"], starts)
    labels = np.full(starts[-1], -1, dtype=np.int16)
    table = torch.from_numpy(fit_clusters(corpus, features, settings.n_targets, settings))
    clips = first_hours(corpus, max_hours)
    for clip, values in track(features(corpus, clips), total=len(clips), description="labelling"):
        found = assign(torch.from_numpy(values), table).numpy()
        # The encoder's last frames need more samples than a clip's tail has: its last cluster fills them.
        labels[starts[clip] : starts[clip + 1]] = np.pad(
            found, (0, starts[clip + 1] - starts[clip] - len(found)), mode="edge"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, labels=labels)
    return Targets(labels, starts)


def first_hours(corpus: PackedCorpus, max_hours: float) -> np.ndarray:
    """Clips of every source, in order, up to `max_hours` of each."""
    hours = np.diff(corpus.starts) / SAMPLE_RATE / 3600
    names = np.asarray(corpus.sources)
    kept = [
        members[np.cumsum(hours[members]) <= max_hours]
        for members in (np.flatnonzero(names == name) for name in dict.fromkeys(corpus.sources))
    ]
    return np.concatenate(kept)
