"""Which layer's units say most about words: an n-gram classifier on units, judged on validation speakers.

The test splits are never read here. The classifier is the quickstart's own baseline, so the figure is one
that a prompt has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scripts.mini.clustering import fit_clusters, layer_features
from scripts.mini.corpus import PackedCorpus
from scripts.mini.hubert_pretraining import HubertSettings
from speechprompt.methods.ngram import ngram_predictions
from tasks.registry import get_task
from units.audio import read_audio
from units.encoders.hubert import HubertEncoder
from units.quantizer import CodebookQuantizer

# Half of the frames from many real speakers: with the encoder's own mix, whose speech is mostly synthetic, the units
# served real speech worse (docs/mini.md).
CODEBOOK_MIX = (
    ("arabic_sc", 0.5),
    ("spoken", 0.25),
    ("fsdd", 0.1),
    ("read_sentences", 0.12),
    ("librispeech_9", 0.03),
)


@dataclass(frozen=True)
class LayerFigures:
    """Accuracy of the n-gram classifier on the validation speakers' clips, and units per second after deduplication."""

    layer: int
    accuracy: float
    units_per_s: float
    centroids: np.ndarray


def judge_quantizer(quantizer: CodebookQuantizer, task_name: str, root: Path) -> tuple[float, float]:
    """Validation accuracy of the n-gram classifier and deduplicated units per second of training speech."""
    task = get_task(task_name, root)
    units, labels = {}, {}
    n_units = n_frames = 0
    for split in ("train", "valid"):
        utterances = task.utterances(split)
        sequences = quantizer([read_audio(u.path) for u in utterances if u.path is not None])
        n_frames += sum(sequence.n_frames for sequence in sequences)
        units[split] = [sequence.deduplicate().units for sequence in sequences]
        n_units += sum(len(sequence) for sequence in units[split])
        labels[split] = [u.target for u in utterances]
    predicted = ngram_predictions(list(zip(units["train"], labels["train"], strict=True)), units["valid"])
    accuracy = float(np.mean([p == t for p, t in zip(predicted, labels["valid"], strict=True)]))
    return accuracy, n_units / (n_frames / quantizer.spec.frame_rate)


def judge_layer(
    folder: Path, layer: int, n_units: int, corpus: PackedCorpus, settings: HubertSettings, arabic: Path
) -> LayerFigures:
    """Fit a codebook on one layer and judge it on Arabic Speech Commands' validation speakers."""
    encoder = HubertEncoder(folder, layer, name="mini-hubert", dtype=torch.bfloat16)
    drawn = replace(settings, mix=CODEBOOK_MIX)
    centroids = fit_clusters(corpus, layer_features(encoder), n_units, drawn, seconds=3000.0)
    accuracy, rate = judge_quantizer(CodebookQuantizer(encoder, centroids), "arabic_speech_commands", arabic)
    return LayerFigures(layer, accuracy, rate, centroids)
