from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import (
    cache_folder,
    cache_key,
    labelled_units,
    quantize_utterances,
)
from speechprompt.views import AS_IS, offset_views
from tasks import Task, Utterance, get_task
from units.audio import read_audio, write_audio
from units.corpus import CorpusEntry
from units.errors import AudioError, InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Six digits, copied to where they may be spoilt."""
    chosen = get_task("spoken_digits").utterances("test")[::50]
    return [replace(u, path=Path(shutil.copy(u.path, tmp_path))) for u in chosen if u.path is not None]


@pytest.fixture
def task(utterances: list[Utterance]) -> Task:
    labels = tuple(sorted({u.target for u in utterances}))
    return Task("few", "classification", labels, {"train": utterances}, ("accuracy",))


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make any further use of an encoder fail."""

    def forbid() -> None:
        def load(*of: object) -> None:
            raise AssertionError("an encoder was loaded")

        monkeypatch.setattr("speechprompt.stack.load_encoder", load)

    return forbid


def test_rows_are_the_units_of_the_recordings_with_their_labels(
    cache: Path, stack: Stack, task: Task
) -> None:
    rows = labelled_units(task, "train", stack)
    for row, utterance in zip(rows, task.utterances("train"), strict=True):
        assert task.labels[row.label] == utterance.target
        assert utterance.path is not None
        assert row.units.tolist() == stack.quantize(utterance.path)[0].units.tolist()


def test_the_second_time_nothing_is_quantized(
    cache: Path, tiny_stack: Path, task: Task, no_models: Callable[[], None]
) -> None:
    first = labelled_units(task, "train", load_stack(tiny_stack))
    no_models()
    again = labelled_units(task, "train", load_stack(tiny_stack))
    assert [row.units.tolist() for row in again] == [row.units.tolist() for row in first]


def test_a_changed_recording_is_quantized_anew(
    cache: Path, stack: Stack, utterances: list[Utterance]
) -> None:
    before = quantize_utterances(utterances, stack)
    first, last = utterances[0].path, utterances[-1].path
    assert first is not None
    assert last is not None
    shutil.copy(last, first)
    os.utime(first, ns=(time.time_ns(), time.time_ns()))
    after = quantize_utterances(utterances, stack)
    assert after[0].tolist() == before[-1].tolist() != before[0].tolist()
    assert len(list((cache / "units").iterdir())) == 2


def test_another_codebook_never_finds_old_units(
    cache: Path, tiny_stack: Path, tmp_path: Path, utterances: list[Utterance]
) -> None:
    from units.kmeans import codebook_id, load_codebook, save_codebook

    quantize_utterances(utterances, load_stack(tiny_stack))
    other = Path(shutil.copytree(tiny_stack, tmp_path / "other"))
    centroids_KD, spec = load_codebook(other / "codebook.safetensors")
    mirrored_KD = np.ascontiguousarray(centroids_KD[::-1])
    spec = replace(spec, codebook=codebook_id(mirrored_KD))
    save_codebook(other / "codebook.safetensors", mirrored_KD, spec)
    for name in ("stack.json", "vocoder/config.json"):
        content = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps({**content, "spec": spec.to_dict()}))
    mirrored = quantize_utterances(utterances, load_stack(other))
    originals = quantize_utterances(utterances, load_stack(tiny_stack))
    assert [(99 - units).tolist() for units in mirrored] == [units.tolist() for units in originals]


def test_bad_recordings_are_named_and_counted(cache: Path, stack: Stack, utterances: list[Utterance]) -> None:
    paths = [u.path for u in utterances if u.path is not None]
    paths[1].write_text("not audio")
    paths[2].write_bytes(b"")
    for _ in range(2):  # from the cache too
        with pytest.raises(AudioError) as caught:
            quantize_utterances(utterances, stack)
        assert str(paths[1]) in str(caught.value)
        assert "1 more of 6 files" in str(caught.value)
        assert str(caught.value).count(str(paths[1])) == 1


def test_a_mended_recording_is_taken(
    cache: Path, stack: Stack, utterances: list[Utterance], tmp_path: Path
) -> None:
    path = utterances[0].path
    assert path is not None
    good = path.read_bytes()
    path.write_text("not audio")
    with pytest.raises(AudioError):
        quantize_utterances(utterances, stack)
    path.write_bytes(good)
    assert len(quantize_utterances(utterances, stack)) == len(utterances)


def test_a_missing_recording_is_named(cache: Path, stack: Stack, utterances: list[Utterance]) -> None:
    assert utterances[0].path is not None
    utterances[0].path.unlink()
    with pytest.raises(AudioError, match=utterances[0].path.name):
        quantize_utterances(utterances, stack)


def test_an_interrupted_job_is_finished(
    cache: Path, stack: Stack, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = quantize_utterances(utterances, stack)
    [entry] = (cache / "units").iterdir()
    for shard in entry.glob("part-*"):
        shard.unlink()
    again = quantize_utterances(utterances, stack)
    assert [units.tolist() for units in again] == [units.tolist() for units in expected]


def test_given_units_are_taken_as_they_are_but_deduplicated(
    cache: Path, stack: Stack, utterances: list[Utterance], no_models: Callable[[], None]
) -> None:
    given = [Utterance("a", "x", units=np.array([3, 3, 5, 5, 3])), Utterance("b", "x", units=np.array([99]))]
    mixed = quantize_utterances([given[0], utterances[0], given[1]], stack)
    no_models()
    assert [units.tolist() for units in quantize_utterances(given, stack)] == [[3, 5, 3], [99]]
    assert [mixed[0].tolist(), mixed[2].tolist()] == [[3, 5, 3], [99]]
    with pytest.raises(InputError, match="another codebook"):
        quantize_utterances([Utterance("a", "x", units=np.array([100]))], stack)
    with pytest.raises(InputError, match="neither"):
        quantize_utterances([Utterance("a", "x")], stack)


def test_speeds_multiply_the_rows(cache: Path, stack: Stack, task: Task) -> None:
    n = len(task.utterances("train"))
    rows = labelled_units(task, "train", stack, views=offset_views(1, (0.8, 1.0, 1.25)))
    plain = labelled_units(task, "train", stack)
    assert len(rows) == 3 * n
    assert [row.units.tolist() for row in rows[n : 2 * n]] == [row.units.tolist() for row in plain]
    assert [row.label for row in rows] == [row.label for row in plain] * 3
    assert len(list((cache / "units").iterdir())) == 3


def test_other_kinds_and_splits_are_refused(cache: Path, stack: Stack, task: Task) -> None:
    with pytest.raises(InputError, match="train"):
        labelled_units(task, "test", stack)
    with pytest.raises(InputError, match="sequence"):
        labelled_units(replace(task, kind="sequence"), "train", stack)


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("SPEECHPROMPT_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "speechprompt"


def test_a_cache_that_cannot_be_written_is_named(
    cache: Path, stack: Stack, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("speechprompt.task_units.quantize_corpus", denied)
    with pytest.raises(InputError, match="SPEECHPROMPT_CACHE"):
        quantize_utterances(utterances, stack)


def test_segments_are_quantized_as_if_they_were_files(
    cache: Path, stack: Stack, utterances: list[Utterance], tmp_path: Path
) -> None:
    waves = [read_audio(u.path) for u in utterances[:2] if u.path is not None]
    joined = tmp_path / "joined.wav"
    write_audio(joined, np.concatenate(waves))
    border_s = len(waves[0]) / 16_000
    first = Utterance("a", "x", path=joined, end_s=border_s)
    second = Utterance("b", "x", path=joined, start_s=border_s)
    for part, wave in zip((first, second), waves, strict=True):
        write_audio(tmp_path / f"{part.id}.wav", wave)
    alone = quantize_utterances([Utterance(n, "x", path=tmp_path / f"{n}.wav") for n in "ab"], stack)
    parts = quantize_utterances([first, second], stack)
    assert [units.tolist() for units in parts] == [units.tolist() for units in alone]
    moved = quantize_utterances([replace(first, end_s=border_s / 2), second], stack)  # not from the cache
    assert moved[0].tolist() != parts[0].tolist()
    assert moved[1].tolist() == parts[1].tolist()
    with pytest.raises(AudioError, match="segment within"):
        quantize_utterances([replace(first, end_s=99.0)], stack)


def test_entries_of_whole_files_keep_their_names(tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    os.utime(path, ns=(5, 5))
    entry = CorpusEntry("a", path)
    content = {
        "format": 1,
        "spec": stack.spec.to_dict(),
        "speed": 1.0,
        "files": [["a", str(path.resolve()), 1, 5]],
    }
    expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    assert cache_key([entry], stack, AS_IS) == expected
    assert cache_key([replace(entry, start_s=0.0)], stack, AS_IS) != expected
    assert cache_key([entry], replace(stack, precision="bf16"), AS_IS) != expected
