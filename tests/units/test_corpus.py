"""A corpus job loses nothing silently, and a killed one ends in the same bytes as an undisturbed one."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from units import store as store_module
from units.audio import read_audio, write_audio
from units.corpus import CorpusEntry, quantize_corpus, read_manifest
from units.encoders.logmel import LogMelEncoder
from units.errors import InputError
from units.quantizer import CodebookQuantizer
from units.store import PLAN_FILE, UnitStore

ROOT = Path(__file__).resolve().parents[2]
CENTROIDS = np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype(np.float32)
make_quantizer = partial(CodebookQuantizer, LogMelEncoder(20), CENTROIDS)
make_demanding = partial(CodebookQuantizer, LogMelEncoder(20, window_s=0.04), CENTROIDS)


@pytest.fixture
def entries(tmp_path: Path) -> list[CorpusEntry]:
    """Eleven clips of 0.1 to 0.6 s."""
    rng = np.random.default_rng(1)
    made = []
    for index in range(11):
        path = tmp_path / "audio" / f"{index}.wav"
        write_audio(path, rng.normal(0, 0.1, rng.integers(1600, 9600)).astype(np.float32))
        made.append(CorpusEntry(f"id{index}", path, label=f"l{index % 2}", speaker="ñ", split="train"))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("deduplicate", [True, False])
def test_every_entry_in_order(entries: list[CorpusEntry], tmp_path: Path, deduplicate: bool) -> None:
    result = quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=4, deduplicate=deduplicate)
    assert (result.n_done, result.failures) == (11, [])
    store, quantizer = UnitStore(tmp_path / "out"), make_quantizer()
    assert store.spec == quantizer.spec
    for row, entry in zip(store, entries, strict=True):
        assert (row.id, row.label, row.speaker, row.split) == (
            entry.id,
            entry.label,
            entry.speaker,
            entry.split,
        )
        assert row.path == str(entry.path)
        (expected,) = quantizer([read_audio(entry.path)])
        sequence = store.sequence(row)
        np.testing.assert_array_equal(sequence.expand().units, expected.units)
        assert (sequence.durations is not None) == deduplicate
        assert not deduplicate or (np.diff(row.units) != 0).all()


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_backends_and_workers_give_the_same_bytes(
    entries: list[CorpusEntry], tmp_path: Path, backend: str
) -> None:
    quantize_corpus(entries, make_quantizer, tmp_path / "one", shard_size=3)
    quantize_corpus(entries, make_quantizer, tmp_path / "two", shard_size=3, backend=backend, n_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_bad_files_are_listed_and_the_others_kept(entries: list[CorpusEntry], tmp_path: Path) -> None:
    entries[2].path.unlink()
    entries[5].path.write_text("text")
    write_audio(entries[9].path, np.zeros(450, np.float32))  # 28 ms: long enough to read, too short below

    result = quantize_corpus(entries, make_demanding, tmp_path / "out", shard_size=7)
    assert result.n_done == 8
    assert [path for path, _ in result.failures] == [str(entries[index].path) for index in (2, 5, 9)]
    assert all(reason.startswith(f"{path}: ") for path, reason in result.failures)
    assert "no such file" in result.failures[0][1] and "28.1 ms" in result.failures[2][1]
    assert [row.id for row in UnitStore(tmp_path / "out")] == [
        f"id{i}" for i in range(11) if i not in (2, 5, 9)
    ]
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8", newline="") as stream:
        assert [tuple(line) for line in csv.reader(stream)] == [("path", "reason"), *result.failures]
    again = quantize_corpus(entries, make_demanding, tmp_path / "out", shard_size=7)
    assert again == result


SLOW_JOB = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import units.shards as shards
from units.corpus import quantize_corpus, read_manifest
from units.encoders.logmel import LogMelEncoder
from units.quantizer import CodebookQuantizer
import numpy as np

def make():
    return CodebookQuantizer(LogMelEncoder(20), np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype("float32"))

read = shards.read_audio
def slow_read(*args, **options):
    time.sleep(0.15)
    return read(*args, **options)
shards.read_audio = slow_read
entries = read_manifest({manifest!r})
quantize_corpus(entries, make, Path({out!r}), shard_size=2)
"""


def test_kill_9_and_run_again_equals_an_undisturbed_run(entries: list[CorpusEntry], tmp_path: Path) -> None:
    manifest, out = tmp_path / "all.csv", tmp_path / "out"
    entries[3].path.write_text("text")
    lines = [f"{entry.path.relative_to(tmp_path)},{entry.id},{entry.label}" for entry in entries]
    manifest.write_text("\n".join(["path,id,label", *lines]))
    script = SLOW_JOB.format(root=str(ROOT), manifest=str(manifest), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while (
        len(list(out.glob("part-*.parquet"))) < 3 and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}
    assert 3 <= len(finished) < 6
    with pytest.raises(InputError, match="run the same command again"):
        UnitStore(out)
    (out / ".tmp-torn-part-00005.parquet").write_bytes(b"half")

    listed = read_manifest(manifest)
    resumed = quantize_corpus(listed, make_quantizer, out, shard_size=2)
    undisturbed = quantize_corpus(listed, make_quantizer, tmp_path / "undisturbed", shard_size=2)
    assert resumed == undisturbed and len(resumed.failures) == 1
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in finished.items())


def rough(make_quantizer: Callable[[], CodebookQuantizer]) -> CodebookQuantizer:
    quantizer = make_quantizer()
    quantizer.encoder.dtype = torch.bfloat16  # type: ignore[attr-defined]
    return quantizer


def test_another_job_in_the_same_folder_is_refused(entries: list[CorpusEntry], tmp_path: Path) -> None:
    out = tmp_path / "out"
    quantize_corpus(entries, make_quantizer, out, shard_size=4)
    before = contents(out)
    with pytest.raises(InputError, match="entries_sha256"):
        quantize_corpus(entries[:-1], make_quantizer, out, shard_size=4)
    with pytest.raises(InputError, match="deduplicate"):
        quantize_corpus(entries, make_quantizer, out, shard_size=4, deduplicate=False)
    with pytest.raises(InputError, match="unit_spec"):
        quantize_corpus(
            entries, partial(CodebookQuantizer, LogMelEncoder(20), CENTROIDS + 1), out, shard_size=4
        )
    with pytest.raises(InputError, match="precision"):
        quantize_corpus(entries, partial(rough, make_quantizer), out, shard_size=4)
    assert contents(out) == before


def test_a_full_disk_stops_the_job_and_leaves_no_torn_shard(
    entries: list[CorpusEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: object, where: Path, **__: object) -> None:
        where.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.pq, "write_table", full_disk)
        with pytest.raises(OSError, match="No space"):
            quantize_corpus(entries, make_quantizer, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").glob("[!.]*")] == ["plan.json"]
    assert not list((tmp_path / "out").glob(".tmp-*"))
    assert quantize_corpus(entries, make_quantizer, tmp_path / "out").n_done == 11


def test_jobs_that_cannot_begin(entries: list[CorpusEntry], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="unique ids"):
        quantize_corpus([], make_quantizer, out)
    with pytest.raises(InputError, match="'id0' more than once"):
        quantize_corpus([*entries, entries[0]], make_quantizer, out)
    assert not out.exists()
    with pytest.raises(InputError, match=r"backend: .*'nosuch'"):
        quantize_corpus(entries, make_quantizer, out, backend="nosuch", n_workers=2)


def test_manifest(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "all.csv"
    file.parent.mkdir()
    file.write_text("\ufeffpath,label,speaker,extra\na/1.wav,نعم,s1,x\n../2.wav,,,\n", encoding="utf-8")
    assert read_manifest(file) == [
        CorpusEntry("a/1.wav", file.parent / "a/1.wav", label="نعم", speaker="s1"),
        CorpusEntry("../2.wav", file.parent / "../2.wav"),
    ]


def test_a_manifest_may_be_kept_inside_its_folder(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "speech", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.wav").touch()
    (root / "out").symlink_to(elsewhere)
    (root / "again").symlink_to("speech")
    (root / "loop").symlink_to("loop")
    (tmp_path / "root.wav").touch()
    file = root / "all.csv"
    harmless = ["speech/a.wav", "again/a.wav", "speech/../speech/a.wav", str(root / "speech/a.wav"), "no.wav"]
    file.write_text("\n".join(["path", *harmless]))
    assert read_manifest(file, inside=True) == read_manifest(file)
    leaving = [
        "../elsewhere/a.wav", "../root.wav", "speech/../../elsewhere/a.wav", str(elsewhere / "a.wav"), "out/a.wav",
        "loop/a.wav",
    ]  # fmt: skip
    for path in leaving:
        file.write_text("\n".join(["path", *harmless, path]))
        assert len(read_manifest(file)) == len(harmless) + 1
        with pytest.raises(InputError, match=rf"{re.escape(repr(path))} in line {len(harmless) + 2};"):
            read_manifest(file, inside=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"file,label\na.wav,x\n", "column path, got file, label"),
        (b"", "column path, got nothing"),
        (b"path\n", "rows below the header"),
        (b"path,label\n,x\n", "line 2"),
        ("path\n\u00e9.wav\n".encode("latin-1"), "UTF-8"),
        (None, "no such file"),
    ],
)
def test_bad_manifests(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "all.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_manifest(file)
    assert str(caught.value).startswith(f"{file}: expected ")


def test_segments_are_entries_of_their_own_and_whole_files_keep_their_plan(
    entries: list[CorpusEntry], tmp_path: Path
) -> None:
    whole = entries[:2]
    quantize_corpus(whole, make_quantizer, tmp_path / "whole", progress=False)
    plan = json.loads((tmp_path / "whole" / PLAN_FILE).read_text())
    fields = [[e.id, str(e.path), str(e.label), str(e.speaker), str(e.split)] for e in whole]
    assert plan["entries_sha256"] == hashlib.sha256(json.dumps(fields).encode()).hexdigest()

    parts = [replace(whole[0], id="start", end_s=0.06), replace(whole[0], id="none", start_s=1e6), whole[1]]
    result = quantize_corpus(parts, make_quantizer, tmp_path / "parts", deduplicate=False, progress=False)
    assert result.n_done == 2
    assert "segment within" in result.failures[0][1]
    rows = {row.id: len(row.units) for row in UnitStore(tmp_path / "parts").rows()}
    assert rows.keys() == {"start", whole[1].id}
    assert 0 < rows["start"] < rows[whole[1].id]
