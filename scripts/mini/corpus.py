"""The speech that the mini stack is trained on: licences that let weights ship, train splits only.

All waves of a corpus lie behind one another in one memory-mapped int16 file, so that drawing a random
crop costs one page of disk and memory does not grow with the hours.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from units.atomic import atomic_path
from units.audio import read_audio

SAMPLE_RATE = 16_000
HELD_OUT_SENTENCES = 21  # the last ones of read_sentences_141 by name


@dataclass(frozen=True)
class Clip:
    """One recording of the corpus.

    source: data set, such as ``fsdd``; speaker: name within it; path: audio file.
    """

    source: str
    speaker: str
    path: Path


def read_table(table: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by column."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(table: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header, whole or not at all."""
    with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def training_clips(data: Path, spoken: Path) -> list[Clip]:
    """Every clip that the mini stack may be trained on.

    Args:
        data: folder with fsdd, arabic_sc, librispeech_9, read_sentences_141.
        spoken: folder written by ``synthesis.synthesize``.
    """
    clips = []
    for source in ("arabic_sc", "fsdd"):
        for row in read_table(data / source / "train.csv"):
            clips.append(Clip(source, row["speaker"], data / source / row["path"]))
    for row in read_table(data / "librispeech_9" / "metadata.csv"):
        clips.append(Clip("librispeech_9", row["speaker"], data / "librispeech_9" / row["path"]))
    sentences = sorted(read_table(data / "read_sentences_141" / "metadata.csv"), key=lambda row: row["path"])
    for row in sentences[:-HELD_OUT_SENTENCES]:
        clips.append(Clip("read_sentences", "reader", data / "read_sentences_141" / row["path"]))
    for row in read_table(spoken / "manifest.csv"):
        source = "syllables" if row["path"].startswith("syllables_") else "spoken"
        clips.append(Clip(source, row["speaker"], spoken / row["path"]))
    return clips


def held_out_sentences(data: Path) -> list[Path]:
    """The 21 read sentences that no part of the mini stack has seen."""
    folder = data / "read_sentences_141"
    paths = sorted(row["path"] for row in read_table(folder / "metadata.csv"))
    return [folder / path for path in paths[-HELD_OUT_SENTENCES:]]


class PackedCorpus:
    """Waves of many clips in one int16 memory map.

    Attributes:
        starts: (n_clips + 1,) int64, where each clip begins, in samples.
        sources, speakers: name per clip.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.folder = folder
        self.starts = np.asarray(index["starts"], dtype=np.int64)
        self.sources: list[str] = index["sources"]
        self.speakers: list[str] = index["speakers"]
        self.paths: list[str] = index["paths"]
        self.samples = np.memmap(folder / "samples.i16", dtype=np.int16, mode="r")

    def __len__(self) -> int:
        return len(self.sources)

    def wave(self, clip: int) -> np.ndarray:
        """Clip as (n_samples,) float32 in [-1, 1]."""
        return self.samples[self.starts[clip] : self.starts[clip + 1]].astype(np.float32) / 32768.0

    def batches(self, clips: np.ndarray, max_batch_s: float) -> Iterator[np.ndarray]:
        """Indices of ``clips``, longest together, at most ``max_batch_s`` of padded audio a batch."""
        lengths = np.diff(self.starts)[clips]
        order = clips[np.argsort(lengths, kind="stable")]
        batch: list[int] = []
        for clip in order:
            longest = int(self.starts[clip + 1] - self.starts[clip])  # sorted: the newest is the longest
            if batch and longest * (len(batch) + 1) > max_batch_s * SAMPLE_RATE:
                yield np.asarray(batch)
                batch = []
            batch.append(int(clip))
        if batch:
            yield np.asarray(batch)


def pack(clips: list[Clip], folder: Path) -> PackedCorpus:
    """Write ``samples.i16`` and ``index.json``; a corpus of the same clips is reused."""
    described = [{**asdict(clip), "path": str(clip.path)} for clip in clips]
    index_path = folder / "index.json"
    if index_path.exists():
        index = json.loads(index_path.read_text())
        if index["paths"] == [row["path"] for row in described]:
            return PackedCorpus(folder)
    folder.mkdir(parents=True, exist_ok=True)
    starts = [0]
    with (folder / "samples.i16").open("wb") as file:
        for clip in track(clips, description="packing"):
            wave = np.round(np.clip(read_audio(clip.path), -1, 1) * 32767).astype(np.int16)
            file.write(wave.tobytes())
            starts.append(starts[-1] + len(wave))
    index = {
        "starts": starts,
        "sources": [row["source"] for row in described],
        "speakers": [row["speaker"] for row in described],
        "paths": [row["path"] for row in described],
    }
    with atomic_path(index_path) as temporary:  # last: without it the corpus counts as not there
        temporary.write_text(json.dumps(index))
    return PackedCorpus(folder)
