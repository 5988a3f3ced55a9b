"""The Arabic keywords as their tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import LabelError, ManifestError, get_task
from units.errors import InputError


def test_official_split_has_forty_labels_and_unseen_speakers(shared_data: Path) -> None:
    task = get_task("arabic_speech_commands", shared_data / "arabic_sc")
    assert {split: len(task.utterances(split)) for split in task.splits} == {
        "train": 2880,
        "valid": 960,
        "test": 960,
    }
    assert len(task.labels) == 40 and "zoom in" in task.labels
    speakers = [{u.speaker for u in task.utterances(split)} for split in ("train", "valid", "test")]
    assert [len(names) for names in speakers] == [18, 6, 6]
    assert len(set.union(*speakers)) == 30


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        get_task("arabic_speech_commands")
    with pytest.raises(ManifestError, match=r"train\.csv: expected a CSV file, got no such file"):
        get_task("arabic_speech_commands", tmp_path)


def test_a_part_of_the_data_is_refused(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for label in ("yes", "no"):
            (tmp_path / f"{split}_{label}.wav").touch()
        (tmp_path / f"{split}.csv").write_text(f"path,label\n{split}_yes.wav,yes\n{split}_no.wav,no\n")
    with pytest.raises(LabelError, match="expected 40 keywords, got 2"):
        get_task("arabic_speech_commands", tmp_path)
