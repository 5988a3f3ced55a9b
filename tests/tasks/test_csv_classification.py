"""A task from CSV files alone: its layouts, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import LabelError, ManifestError, Task, get_task
from units.errors import InputError


def write(folder: Path, name: str, rows: list[tuple[str, ...]], header: str = "path,label") -> None:
    folder.mkdir(exist_ok=True)
    for row in rows:
        (folder / row[0]).touch()
    lines = [header, *(",".join(row) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def clips(prefix: str, n: int, labels: tuple[str, ...] = ("نعم", "لا شكرا")) -> list[tuple[str, ...]]:
    return [(f"{prefix}{i}.wav", labels[i % len(labels)]) for i in range(n)]


def load(root: Path) -> Task:
    return get_task("csv_classification", root)


def ids(task: Task, split: str) -> list[str]:
    return [utterance.id for utterance in task.utterances(split)]


def test_three_files(tmp_path: Path) -> None:
    for split, n in (("train", 8), ("valid", 4), ("test", 6)):
        write(tmp_path, f"{split}.csv", clips(split, n))
    task = load(tmp_path)
    assert task.labels == ("لا شكرا", "نعم")  # sorted: the order does not depend on the rows'
    assert [len(task.utterances(split)) for split in ("train", "valid", "test")] == [8, 4, 6]
    assert task.utterances("test")[0].path == tmp_path / "test0.wav"
    assert task.utterances("test")[0].target == "نعم"
    assert task.metrics[0] == "accuracy"


def test_one_csv_by_its_path_or_its_folder_is_the_same_task(tmp_path: Path) -> None:
    rows = [
        (*row, split)
        for split, n in (("train", 8), ("valid", 4), ("test", 6))
        for row in clips(split, n, ("a", "b"))
    ]
    write(tmp_path, "data.csv", rows, "path,label,split")
    by_path, by_folder = load(tmp_path / "data.csv"), load(tmp_path)
    assert by_path.splits == by_folder.splits
    assert ids(by_path, "valid") == [f"valid{i}.wav" for i in range(4)]


def test_without_valid_a_tenth_of_train_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("train", 40))
    write(tmp_path, "test.csv", clips("test", 4))
    task = load(tmp_path)
    assert len(ids(task, "valid")) == 4
    assert sorted(ids(task, "train") + ids(task, "valid")) == sorted(f"train{i}.wav" for i in range(40))
    assert load(tmp_path).splits == task.splits


def test_held_out_speakers_are_not_trained_on(tmp_path: Path) -> None:
    rows = [(f"{i}.wav", "ab"[i % 2], f"s{i // 4}", "train") for i in range(40)]
    write(tmp_path, "all.csv", rows, "path,label,speaker,split")
    task = load(tmp_path)
    train, valid = ({u.speaker for u in task.utterances(split)} for split in ("train", "valid"))
    assert valid and not train & valid


def test_no_test_split_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "all.csv", [(*row, "train") for row in clips("a", 20)], "path,label,split")
    task = load(tmp_path)
    with pytest.raises(InputError, match="train, valid, got 'test'"):
        task.utterances("test")


def test_label_outside_train_names_file_line_and_label(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("train", 10, ("a", "b")))
    write(tmp_path, "test.csv", [*clips("test", 2, ("a", "b")), ("x.wav", "打开 灯")])
    with pytest.raises(LabelError, match=r"test\.csv line 4: .*'打开 灯'.*choices: a, b"):
        load(tmp_path)


def test_one_label_is_no_classification(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("train", 10, ("a",)))
    write(tmp_path, "test.csv", clips("test", 2, ("a",)))
    with pytest.raises(LabelError, match="two different labels"):
        load(tmp_path)


def test_nothing_to_hold_out(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("train", 2, ("a", "b")))
    write(tmp_path, "test.csv", clips("test", 2, ("a", "b")))
    with pytest.raises(ManifestError, match="at least two recordings"):
        load(tmp_path)


def test_the_same_recording_in_train_and_test(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("a", 10))
    write(tmp_path, "test.csv", clips("a", 1))
    with pytest.raises(ManifestError, match=r"test\.csv line 2: .*train\.csv line 2"):
        load(tmp_path)


def test_split_column_that_contradicts_the_file(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", clips("a", 10))
    write(tmp_path, "test.csv", [("x.wav", "a", "train")], "path,label,split")
    with pytest.raises(ManifestError, match=r"test\.csv line 2: expected the split 'test'"):
        load(tmp_path)


@pytest.mark.parametrize("word", ["val", "", "Train"])
def test_unknown_split_lists_the_choices(tmp_path: Path, word: str) -> None:
    write(tmp_path, "all.csv", [("a.wav", "a", "train"), ("b.wav", "b", word)], "path,label,split")
    with pytest.raises(ManifestError, match=r"all\.csv line 3: expected a split out of train, valid, test"):
        load(tmp_path)


def test_one_csv_without_training_rows_or_without_the_column(tmp_path: Path) -> None:
    write(tmp_path, "all.csv", [("a.wav", "a", "test")], "path,label,split")
    with pytest.raises(ManifestError, match="rows with the split 'train'"):
        load(tmp_path)
    write(tmp_path, "all.csv", clips("a", 4))
    with pytest.raises(ManifestError, match="add the column 'split'"):
        load(tmp_path)


def test_folders_without_a_known_layout(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="got no CSV"):
        load(tmp_path)
    write(tmp_path, "train.csv", clips("a", 10))
    write(tmp_path, "val.csv", clips("v", 2))
    with pytest.raises(ManifestError, match=r"got train\.csv, val\.csv"):
        load(tmp_path)
    write(tmp_path, "test.csv", clips("t", 2))
    with pytest.raises(ManifestError, match=r"val\.csv: .*rename it to valid\.csv"):
        load(tmp_path)
    with pytest.raises(ManifestError, match="got nothing there"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match="--data"):
        get_task("csv_classification")


def test_hidden_files_beside_the_one_csv_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "all.csv", [(*row, "train") for row in clips("a", 20)], "path,label,split")
    (tmp_path / "._all.csv").write_bytes(b"\x00\x05\x16\x07")
    assert set(load(tmp_path).splits) == {"train", "valid"}
