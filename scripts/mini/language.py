"""The mini unit LM: its rows (a unit for every frame, real speech also at other speeds) and its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from rich.progress import track

from scripts.mini.clustering import first_hours
from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus, read_table
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.pretrain import PretrainConfig, PretrainResult, pretrain_lm
from speechprompt.vocab import UnitVocab
from units.atomic import atomic_path
from units.audio import read_audio
from units.quantizer import CodebookQuantizer

TRANSFORMER = TransformerConfig(n_layers=6, d_model=256, n_heads=4, d_ffn=1024, dropout=0.1)
PRETRAINING = PretrainConfig(
    steps=1_800,
    batch_tokens=4096,
    lr=2e-3,
    warmup_steps=100,
    check_every=100,
    bf16=True,
    p_drop=0.03,
    p_replace=0.02,
)
MAX_HOURS = 6.0  # of each source
SPEEDS = (0.85, 0.92, 1.08, 1.17)  # other rates and vocal tracts, for sources with few speakers
REPEATED_SOURCES = ("arabic_sc", "fsdd", "read_sentences", "librispeech_9")


@dataclass(frozen=True)
class UnitSequences:
    """rows: units that the LM is trained on, one for every frame; valid: held-out rows."""

    rows: list[np.ndarray]
    valid: list[np.ndarray]


def _quantize(quantizer: CodebookQuantizer, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [sequence.units for sequence in quantizer(waves)]


def _keep(path: Path, sequences: list[np.ndarray]) -> list[np.ndarray]:
    lengths = np.asarray([len(sequence) for sequence in sequences])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, units=np.concatenate(sequences).astype(np.int16), lengths=lengths)
    return sequences


def _read(path: Path) -> list[np.ndarray]:
    kept = np.load(path)
    return np.split(kept["units"].astype(np.int64), np.cumsum(kept["lengths"])[:-1])


def corpus_units(
    corpus: PackedCorpus, quantizer: CodebookQuantizer, clips: np.ndarray, path: Path, speed: float = 1.0
) -> list[np.ndarray]:
    """Frame-level units of ``clips`` in their order, heard at ``speed`` times their rate; kept at ``path``."""
    if path.exists():
        return _read(path)
    found: dict[int, np.ndarray] = {}
    batches = list(corpus.batches(clips, max_batch_s=120.0))
    for batch in track(batches, description=f"quantizing, speed {speed}"):
        waves = [corpus.wave(int(clip)) for clip in batch]
        if speed != 1.0:
            waves = [soxr.resample(wave, speed * SAMPLE_RATE, SAMPLE_RATE, quality="QQ") for wave in waves]
        found.update(zip(batch.tolist(), _quantize(quantizer, waves), strict=True))
    return _keep(path, [found[int(clip)] for clip in clips])


def spoken_units(folder: Path, quantizer: CodebookQuantizer) -> list[np.ndarray]:
    """Frame-level units of what ``synthesis.synthesize`` spoke into a folder."""
    waves = [read_audio(folder / row["path"]) for row in read_table(folder / "manifest.csv")]
    return _quantize(quantizer, waves)


def unit_sequences(
    corpus: PackedCorpus, quantizer: CodebookQuantizer, folder: Path, held_out: Path
) -> UnitSequences:
    """Quantize the corpus once, its real speech at four more speeds, and the held-out spoken lines."""
    everything = first_hours(corpus, MAX_HOURS)
    repeated = np.flatnonzero(np.isin(np.asarray(corpus.sources), REPEATED_SOURCES))
    rows: list[np.ndarray] = []
    for speed in (1.0, *SPEEDS):
        clips = everything if speed == 1.0 else repeated
        rows += corpus_units(corpus, quantizer, clips, folder / f"speed_{speed}.npz", speed)
    return UnitSequences(rows, spoken_units(held_out, quantizer))


def train_language_model(
    sequences: UnitSequences, n_units: int, out: Path, *, seed: int = PRETRAINING.seed
) -> PretrainResult:
    """Train the shipped LM, or with another seed and other rows one like it; continues where a killed run stopped."""
    vocab, config = UnitVocab.from_n_units(n_units), replace(PRETRAINING, seed=seed)
    return pretrain_lm(TRANSFORMER, vocab, sequences.rows, out, config, valid=sequences.valid, half=True)
