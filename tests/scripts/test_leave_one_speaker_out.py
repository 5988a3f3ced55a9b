"""Every speaker is the test once, by models that never heard them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from scripts import leave_one_speaker_out
from scripts.leave_one_speaker_out import table_text, write_folds
from tasks import get_task
from units.errors import InputError


@pytest.fixture
def spoken(two_words: Path, tmp_path: Path) -> Path:
    """The two words' recordings, each said to be of one of four speakers who say both."""
    folder = tmp_path / "spoken"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        with (two_words / name).open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        with (folder / name).open("w", encoding="utf-8", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(["path", "label", "speaker"])
            for number, row in enumerate(rows):
                (folder / row["path"]).write_bytes((two_words / row["path"]).read_bytes())
                table.writerow([row["path"], row["label"], "abcd"[number % 4]])
    return folder


def test_a_folds_speakers_are_apart_and_every_recording_is_tested_once(spoken: Path, tmp_path: Path) -> None:
    names = write_folds(spoken, tmp_path / "folds")
    assert names == ["speaker-1", "speaker-2", "speaker-3", "speaker-4"]
    tested: list[str] = []
    for name in names:
        task = get_task("csv_classification", tmp_path / "folds" / f"{name}.csv")
        speakers = [{u.speaker for u in task.utterances(split)} for split in ("train", "valid", "test")]
        assert [len(s) for s in speakers] == [2, 1, 1] and len(set.union(*speakers)) == 4
        tested += [u.id for u in task.utterances("test")]
    assert len(tested) == len(set(tested)) == 32


def test_without_speakers_there_are_no_folds(two_words: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="that name at least 3 speakers"):
        write_folds(two_words, tmp_path)


def test_one_command_makes_the_table_and_does_nothing_twice(
    spoken: Path, tiny_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))

    def run() -> str:
        leave_one_speaker_out.main(
            spoken, tmp_path / "out", "ngram,majority", [], str(tiny_stack), "0,1", workers=0
        )
        return (tmp_path / "out" / "unheard.md").read_text(encoding="utf-8")

    text = run()
    assert "32 recordings, each predicted 2 times" in text
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line[:1] == "|"
    }
    assert set(rows) == {"method", "---|---|---|---|---|---|---", "ngram", "majority"}
    assert rows["majority"][3:6] == ["50.0"] * 3  # every speaker says both words equally often
    result = tmp_path / "out" / "speaker-1-tiny" / "ngram" / "all" / "seed0" / "result.json"
    written = result.stat().st_mtime_ns
    assert run() == text and result.stat().st_mtime_ns == written


def test_rows_are_ranked_and_folds_are_split_by_their_lengths() -> None:
    right = {"half": np.array([[True, False, True, False]]), "most": np.array([[True, True, True, False]])}
    lines = table_text(right, [1, 3], 1).splitlines()[4:]
    assert lines[0].startswith("| most | 75.00 |") and lines[0].endswith("| 100.0 | 66.7 |")
    assert lines[1].startswith("| half | 50.00 |") and lines[1].endswith("| 100.0 | 33.3 |")
