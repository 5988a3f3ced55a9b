"""Which layer's units say most about words: an n-gram classifier on units, judged on validation speakers.

The test splits are never read here. The classifier is the quickstart's own baseline, so the figure is one
that a prompt has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scripts.mini.clustering import draw_frames, layer_features
from scripts.mini.corpus import PackedCorpus
from scripts.mini.hubert_pretraining import HubertSettings
from scripts.mini.whitened_codebook import fit_whitened_codebook
from speechprompt.methods.ngram import ngram_predictions
from tasks.registry import get_task
from units.audio import read_audio
from units.encoders.hubert import HubertEncoder
from units.quantizer import CodebookQuantizer

# Frames of many real speakers, most of them of short words: with the encoder's own mix, whose speech is mostly
# synthetic, the units served real speech worse (docs/mini.md).
CODEBOOK_MIX = (("arabic_sc", 0.45), ("fsdd", 0.45), ("read_sentences", 0.07), ("librispeech_9", 0.03))
CODEBOOK_S = 2600.0
JUDGES = (("arabic_speech_commands", "arabic_sc"), ("spoken_digits", "fsdd"))


@dataclass(frozen=True)
class LayerFigures:
    """Accuracies of the n-gram classifier on validation clips, by task, and the codebook (K, D) float32."""

    layer: int
    accuracies: dict[str, float]
    centroids: np.ndarray


def judge_quantizer(quantizer: CodebookQuantizer, task_name: str, root: Path) -> float:
    """Validation accuracy of the n-gram classifier."""
    task = get_task(task_name, root)
    units, labels = {}, {}
    for split in ("train", "valid"):
        utterances = task.utterances(split)
        sequences = quantizer([read_audio(u.path) for u in utterances if u.path is not None])
        units[split] = [sequence.deduplicate().units for sequence in sequences]
        labels[split] = [u.target for u in utterances]
    predicted = ngram_predictions(list(zip(units["train"], labels["train"], strict=True)), units["valid"])
    return float(np.mean([p == t for p, t in zip(predicted, labels["valid"], strict=True)]))


def judge_layer(
    folder: Path, layer: int, n_units: int, corpus: PackedCorpus, settings: HubertSettings, data: Path
) -> LayerFigures:
    """Fit a codebook on one layer and judge it on the validation clips of the two tasks whose data is at hand."""
    encoder = HubertEncoder(folder, layer, name="mini-hubert", dtype=torch.bfloat16)
    drawn = replace(settings, mix=CODEBOOK_MIX)
    frames_FD = draw_frames(corpus, layer_features(encoder), drawn, CODEBOOK_S)
    centroids = fit_whitened_codebook(frames_FD, n_units, settings.seed)
    quantizer = CodebookQuantizer(encoder, centroids)
    accuracies = {task: judge_quantizer(quantizer, task, data / name) for task, name in JUDGES}
    return LayerFigures(layer, accuracies, centroids)
