"""The mini pGSLM: runs of units with durations and F0 of a part of the speech, and its training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from scripts.mini.clustering import first_hours
from scripts.mini.corpus import PackedCorpus
from speechprompt.pretraining.config import PretrainConfig, PretrainResult
from speechprompt.pretraining.corpus import read_corpus
from speechprompt.pretraining.families import ModelSize, objective_of
from speechprompt.pretraining.loop import pretrain
from units.corpus import CorpusEntry, quantize_corpus
from units.encoders.hubert import HubertEncoder
from units.kmeans import load_codebook
from units.quantizer import CodebookQuantizer

MAX_HOURS = 4.0  # of each source: F0 takes ten times as long as units
PRETRAINING = PretrainConfig(
    steps=1_400, batch_tokens=4096, lr=2e-3, warmup_steps=100, check_every=100, bf16=True
)


def load_quantizer(encoder: Path, layer: int, name: str, codebook: Path) -> CodebookQuantizer:
    """The trained units, by the files of their parts."""
    return CodebookQuantizer(
        HubertEncoder(encoder, layer, name=name, dtype=torch.bfloat16), load_codebook(codebook)[0]
    )


def pitched_store(corpus: PackedCorpus, make: Callable[[], CodebookQuantizer], folder: Path) -> Path:
    """Units, durations and F0 of the first hours of every source; continues where a killed run stopped."""
    entries = [
        CorpusEntry(
            str(clip), Path(corpus.paths[clip]), speaker=f"{corpus.sources[clip]} {corpus.speakers[clip]}"
        )
        for clip in first_hours(corpus, MAX_HOURS).tolist()
    ]
    quantize_corpus(entries, make, folder, f0=True, n_workers=-1)
    return folder


def train_prosodic(store: Path, out: Path) -> PretrainResult:
    """Train the shipped pGSLM; continues where a killed run stopped."""
    objective = objective_of("pgslm", read_corpus([store]), ModelSize(), PRETRAINING)
    return pretrain(objective, out, PRETRAINING, half=True)
