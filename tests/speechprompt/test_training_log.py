from __future__ import annotations

from pathlib import Path

import pytest

from speechprompt.training_log import COLUMNS, TENSORBOARD_FOLDER, TrainingLog, read_log


def rows(n: int) -> list[dict[str, float]]:
    return [{name: i + j / 10 for j, name in enumerate(COLUMNS)} | {"step": 10.0 * (i + 1)} for i in range(n)]


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / TENSORBOARD_FOLDER))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_every_epoch_is_in_the_table_and_in_tensorboard(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, progress=False) as log:
        for n in (1, 2, 3):
            log.epoch(rows(3)[:n])
            assert read_log(tmp_path) == rows(3)[:n]
    expected = [(int(row["step"]), pytest.approx(row["valid_accuracy"])) for row in rows(3)]
    assert scalars(tmp_path, "accuracy/valid") == expected


def test_what_a_killed_training_logged_beyond_its_state_is_dropped(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, progress=False) as log:
        for n in (1, 2, 3):
            log.epoch(rows(n))
    with TrainingLog(tmp_path, 20, progress=False) as log:  # continues behind the second epoch
        log.epoch(rows(3))
    assert [step for step, _ in scalars(tmp_path, "loss/train")] == [10, 20, 30]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, 0, progress=True, write=False) as log:
        assert list(log.steps(0, 2, "epoch", [5, 6])) == [5, 6]
        log.epoch(rows(1))
    assert not list(tmp_path.iterdir())
    assert read_log(tmp_path) == []
