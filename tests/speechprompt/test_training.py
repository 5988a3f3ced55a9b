from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import speechprompt as sp
from speechprompt.prompted import PromptConfig
from speechprompt.run import load_run
from speechprompt.run_record import RECORD_FILE, RunExistsError, read_record
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import labelled_units
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective
from speechprompt.training import train
from tasks import LabelError, Task, get_task
from units.errors import AudioError

SHORT = TrainConfig(max_epochs=1, speed_perturbation=())


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module")
def few_digits() -> Task:
    """Two digits, a few clips each."""
    digits = get_task("spoken_digits")
    splits = {
        split: [
            u for digit in "12" for u in [v for v in digits.utterances(split) if v.target == digit][: n // 2]
        ]
        for split, n in {"train": 24, "valid": 8, "test": 8}.items()
    }
    return replace(digits, labels=("1", "2"), splits=splits)


def write_csv_task(folder: Path, digits: Task, test_label: str = "two") -> None:
    """A task of a user's own: a folder of CSVs and WAVs."""
    import shutil

    for split in ("train", "valid", "test"):
        lines = ["path,label"]
        for utterance in digits.utterances(split):
            assert utterance.path is not None
            name = f"{split}_{utterance.path.name}"
            shutil.copy(utterance.path, folder / name)
            label = "one" if utterance.target == "1" else test_label if split == "test" else "two"
            lines.append(f"{name},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


def test_a_task_becomes_a_run(tmp_path: Path, stack: Stack, few_digits: Task) -> None:
    run = sp.train(few_digits, stack, out=tmp_path / "run", prompt_length=4, seed=7, config=SHORT)
    record = read_record(tmp_path / "run")
    assert record.differences(run.record) == []
    assert record.status == "finished"
    assert record.labels == ("1", "2")
    assert record.spec == stack.spec
    assert record.lm_fingerprint == stack.lm.fingerprint()
    assert PromptConfig(**record.prompt) == PromptConfig(length=4, seed=7)
    assert TrainConfig.from_dict(record.training) == replace(SHORT, seed=7)
    layers, width = stack.lm.n_layers, stack.lm.d_model
    assert record.trainable_parameters == 2 * layers * 4 * width + width + 2 * width
    assert record.frozen_parameters == stack.lm.n_parameters()
    assert run.metrics["valid"]["accuracy"] == run.history[0]["valid_accuracy"]
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "run.json",
        "prompt.safetensors",
        "log.csv",
        "tensorboard",
    }
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_run_opens_as_it_was_left(tmp_path: Path, stack: Stack, few_digits: Task) -> None:
    import torch

    run = train(few_digits, stack, tmp_path / "run", verbalizer="random", config=SHORT)
    opened = load_run(tmp_path / "run")
    assert opened.stack.source == stack.source
    state = opened.prompted.trainable_state()
    assert state.keys() == run.prompted.trainable_state().keys()
    assert all(torch.equal(value, state[name]) for name, value in run.prompted.trainable_state().items())
    assert not opened.prompted.training


def test_a_task_and_a_stack_are_found_by_name(
    tmp_path: Path, tiny_stack: Path, few_digits: Task, stack: Stack
) -> None:
    write_csv_task(tmp_path, few_digits)
    run = train("csv_classification", tiny_stack, tmp_path / "run", data=tmp_path, config=SHORT)
    assert run.record.task == "csv_classification"
    assert run.record.data == str(tmp_path.resolve())
    assert run.record.stack == stack.source
    assert run.record.labels == ("one", "two")


def test_speed_perturbation_adds_training_rows(
    tmp_path: Path, stack: Stack, few_digits: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def record_rows(objective: LabelObjective, *rest: object, **options: object) -> None:
        seen.append((len(objective.batches.rows), len(objective.valid_batches.rows)))

    monkeypatch.setattr("speechprompt.training.train_module", record_rows)
    for factors in ((), (1.0,), (0.9, 1.0, 1.1)):
        config = replace(SHORT, speed_perturbation=factors)
        train(few_digits, stack, tmp_path / f"run{len(factors)}", config=config)
    assert seen == [(24, 32), (24, 32), (72, 32)]  # validation at four offsets


def test_the_frequency_verbalizer_takes_the_most_frequent_units(
    tmp_path: Path, stack: Stack, few_digits: Task
) -> None:
    run = train(few_digits, stack, tmp_path / "run", verbalizer="frequency", config=SHORT)
    counts = np.bincount(
        np.concatenate([row.units for row in labelled_units(few_digits, "train", stack)]), minlength=100
    )
    chosen = stack.lm.vocab.decode(run.prompted.trainable_state()["verbalizer.ids"].numpy())
    assert counts[chosen].tolist() == sorted(counts)[::-1][:2]


def test_a_finished_run_is_not_trained_over(tmp_path: Path, stack: Stack, few_digits: Task) -> None:
    train(few_digits, stack, tmp_path / "run", config=SHORT)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunExistsError, match="finished"):
        train(few_digits, stack, tmp_path / "run", config=SHORT)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_an_unfinished_run_of_other_settings_is_not_continued(
    tmp_path: Path, stack: Stack, few_digits: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.training.train_module", stop)
        with pytest.raises(KeyboardInterrupt):
            train(few_digits, stack, tmp_path / "run", config=SHORT)
    with pytest.raises(RunExistsError, match="differs in length;"):
        train(few_digits, stack, tmp_path / "run", prompt_length=6, config=SHORT)
    train(few_digits, stack, tmp_path / "run", config=SHORT)
    assert json.loads((tmp_path / "run" / RECORD_FILE).read_text())["status"] == "finished"


def test_a_label_of_the_test_split_alone_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_stack: Path, few_digits: Task
) -> None:
    write_csv_task(tmp_path, few_digits, test_label="three")
    with pytest.raises(LabelError, match="three"):
        train("csv_classification", tiny_stack, tmp_path / "run", data=tmp_path, config=SHORT)
    assert not (tmp_path / "run").exists()


def test_a_bad_recording_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_stack: Path, few_digits: Task
) -> None:
    write_csv_task(tmp_path, few_digits)
    chosen = sorted(tmp_path.glob("train_*.ogg"))[3]
    with wave.open(str(chosen.with_suffix(".wav")), "wb") as file:  # 5 ms of audio
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * 80)
    chosen.unlink()
    chosen.with_suffix(".wav").rename(chosen)
    with pytest.raises(AudioError, match=chosen.name):
        train("csv_classification", tiny_stack, tmp_path / "run", data=tmp_path, config=SHORT)
    assert not (tmp_path / "run").exists()
