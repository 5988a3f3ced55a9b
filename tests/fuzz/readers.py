"""Everything that reads what others wrote, as functions of one file's bytes: they read it, or raise InputError.

A `Reader` gives valid content to begin with, and reads any content. Formats of several files have one reader for each
of these, beside which the others stay valid.
"""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import soundfile
import torch
from sklearn.cluster import KMeans

from speechprompt.checkpoint import (
    PROMPT_FILE,
    STATE_FILE,
    begin_run,
    load_prompt,
    load_state,
    save_prompt,
    save_state,
)
from speechprompt.fairseq import read_fairseq
from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.prompt_config import PromptConfig
from speechprompt.run_record import RECORD_FILE, RunRecord, read_record
from speechprompt.train_config import TrainConfig
from speechprompt.vocab import UnitVocab
from tasks.csv_table import read_table
from tasks.unit_files import read_unit_file
from tests.fuzz import http_bodies
from units.audio import encode_audio, read_audio
from units.audio_bytes import decode_audio
from units.kmeans import codebook_id, load_codebook, save_codebook
from units.recording import read_recording
from units.safe_pickle import read_joblib_kmeans, read_torch_file
from units.store import UnitRow, UnitStore, write_shard
from units.types import UnitSpec

SPEC = UnitSpec("tiny", 1, 8, 50.0, "0123456789ab")
TONE = (0.3 * np.sin(np.arange(2_000) / 9)).astype(np.float32)
RUN_LM = "f" * 64  # the language model's fingerprint


@dataclass(frozen=True)
class Reader:
    """seeds: valid contents. prepare: puts what else is needed into a folder. read: a content, in that folder."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    prepare: Callable[[Path], object] = lambda folder: None


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of a content as the file `name`."""

    def read_content(content: bytes, folder: Path) -> object:
        file = folder / name
        file.write_bytes(content)
        return read(file)

    return read_content


def _in_folder(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of the folder in which a content is the file `name`."""
    return _file(name, lambda file: read(file.parents[name.count("/")]))


def _made(make: Callable[[Path], object], name: str) -> Callable[[], list[bytes]]:
    """What `make` writes into an empty folder as the file `name`."""

    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            return [(Path(folder) / name).read_bytes()]

    return seeds


def _sounds() -> list[bytes]:
    return [encode_audio(TONE, 16_000), encode_audio(TONE, 8_000)] + [
        _encoded(container) for container in ("FLAC", "OGG")
    ]


def _encoded(container: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, TONE, 16_000, format=container)
    return file.getvalue()


def _store(folder: Path) -> None:
    rows = [
        UnitRow(str(n), np.arange(n + 1) % 8, np.ones(n + 1, dtype=np.int64), label="a", split="train")
        for n in range(4)
    ]
    write_shard(folder / "part-00000.parquet", rows, SPEC)


def _all_sequences(folder: Path) -> list[object]:
    store = UnitStore(folder)
    return [store.sequence(row) for row in store.rows()]


def _run(folder: Path) -> None:
    record = RunRecord(
        task="words",
        data=None,
        labels=("no", "yes"),
        stack="tiny",
        spec=SPEC,
        lm_fingerprint=RUN_LM,
        prompt=PromptConfig().to_dict(),
        training=TrainConfig().to_dict(),
        trainable_parameters=6,
        frozen_parameters=10,
    )
    begin_run(folder, record)
    save_prompt(folder, {"key": torch.zeros(2, 3)}, record)
    (folder / STATE_FILE).parent.mkdir(exist_ok=True)
    save_state(folder, {"weights": torch.zeros(4), "counters": {"step": 1}, "names": ["a"]})


def _table(folder: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (folder / name).touch()


def _unit_file(content: bytes, folder: Path) -> object:
    file = folder / "ks_train.jsonl.gz"
    file.write_bytes(gzip.compress(content, compresslevel=1))
    return read_unit_file(file)


def _torch_files() -> list[bytes]:
    content = {"args": None, "cfg": {"model": {"layers": 2}}, "model": {"a.weight": torch.ones(2, 3)}}
    files = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        files.append(file.getvalue())
    return files


def _language_model(folder: Path) -> None:
    GSLM(TransformerConfig(1, 8, 2, 16, max_positions=16), UnitVocab.from_n_units(8)).save(folder)


def _codebook(folder: Path) -> None:
    centroids_KD = np.arange(16, dtype=np.float32).reshape(8, 2)
    spec = UnitSpec("tiny", 1, 8, 50.0, codebook_id(centroids_KD))
    save_codebook(folder / "codebook.safetensors", centroids_KD, spec)


def _kmeans_files() -> list[bytes]:
    fitted = KMeans(2, n_init=1, random_state=0).fit(np.arange(8.0).reshape(4, 2))
    files = []
    for compress in (0, 3):
        file = io.BytesIO()
        joblib.dump(fitted, file, compress=compress)
        files.append(file.getvalue())
    return files


READERS: dict[str, Reader] = {
    "audio-file": Reader(_sounds, _file("clip", read_audio)),
    "audio-bytes": Reader(_sounds, lambda content, _: decode_audio(content, max_s=2.0)),
    "recording": Reader(_sounds, _file("clip.wav", read_recording)),
    "csv-table": Reader(
        lambda: [b'path,label,speaker\na.wav,yes,s1\nb.wav,"n,o",s2\n', "path,label\na.wav,نعم\n".encode()],
        _file("train.csv", read_table),
        _table,
    ),
    "unit-file": Reader(
        lambda: [b'{"id":"a","units":[1,2,3],"label":"yes"}\n{"id":"b","units":[4],"label":["x","y"]}\n'],
        _unit_file,
    ),
    "unit-store": Reader(
        _made(_store, "part-00000.parquet"), _in_folder("part-00000.parquet", _all_sequences)
    ),
    "codebook": Reader(
        _made(_codebook, "codebook.safetensors"), _file("codebook.safetensors", load_codebook)
    ),
    "run-record": Reader(_made(_run, RECORD_FILE), _in_folder(RECORD_FILE, read_record)),
    "run-prompt": Reader(
        _made(_run, PROMPT_FILE), _in_folder(PROMPT_FILE, lambda folder: load_prompt(folder, RUN_LM)), _run
    ),
    "run-state": Reader(_made(_run, STATE_FILE), _in_folder(STATE_FILE, load_state), _run),
    "language-model": Reader(
        _made(_language_model, "config.json"), _in_folder("config.json", load_lm), _language_model
    ),
    "torch-checkpoint": Reader(_torch_files, _file("model.pt", read_torch_file)),
    "kmeans-checkpoint": Reader(_kmeans_files, _file("km.bin", read_joblib_kmeans)),
    "fairseq-checkpoint": Reader(_torch_files, _file("model.pt", read_fairseq)),
    "http-audio": Reader(
        _sounds,
        partial(http_bodies.ask, path="/classify?run=yes-no", content_type="audio/*"),
        http_bodies.prepare,
    ),
    "http-continue": Reader(
        _sounds,
        partial(http_bodies.ask, path="/continue?length_s=0.2&seed_s=0.1", content_type="audio/*"),
        http_bodies.prepare,
    ),
    "http-json": Reader(
        lambda: [http_bodies.ROWS],
        partial(http_bodies.ask, path="/classify-units", content_type="application/json"),
        http_bodies.prepare,
    ),
}
