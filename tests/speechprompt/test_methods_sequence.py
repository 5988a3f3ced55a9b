"""The methods on the unit LM as they do sequence tasks and labels of several slots, by the same signature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt.methods import Job, run_method
from speechprompt.run_record import read_record
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from tasks.base import Task, Utterance
from tasks.metrics import report

QUICK: dict[str, Any] = {
    "max_epochs": 12,
    "lr": 0.02,
    "batch_rows": 8,
    "unit_dropout": 0.0,
    "average_epochs": 1,
    "label_smoothing": 0.0,
}


def planted(n: int, seed: int) -> list[Utterance]:
    """Rows of one to three stretches of units, each of which says a letter by where its units come from."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        letters = rng.integers(3, size=int(rng.integers(1, 3)))
        units = np.concatenate([33 * letter + rng.integers(4, size=5) for letter in letters])
        rows.append(Utterance(f"{seed}-{i}", "".join("abc"[letter] for letter in letters), units=units))
    return rows


@pytest.fixture(scope="module")
def spelled() -> Task:
    splits = {"train": planted(64, 0), "valid": planted(16, 1), "test": planted(12, 2)}
    return Task("spelled", "sequence", (), splits, ("cer",))


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_no_waiting_for_the_disk() -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.atomic.os.fsync", lambda descriptor: None)
        yield


@pytest.mark.parametrize("method", ["prompt", "lora", "finetune"])
def test_a_method_says_symbols_and_leaves_the_stack_as_it_was(
    method: str, spelled: Task, stack: Stack, tmp_path: Path
) -> None:
    fingerprint = stack.lm.fingerprint()
    settings = {**QUICK, "lr": 3e-3, "warmup_steps": 5} if method == "finetune" else QUICK
    job = Job(spelled, stack, tmp_path / "run", settings=settings)
    outcome = run_method(method, job)
    assert stack.lm.fingerprint() == fingerprint
    assert outcome.scores == {}
    assert {split: len(texts) for split, texts in outcome.predictions.items()} == {"valid": 16, "test": 12}
    assert all(set(text) <= set("abc") for text in outcome.predictions["test"])
    losses = [row["valid_loss"] for row in outcome.history]
    assert min(losses) < losses[0]
    targets = [utterance.target for utterance in spelled.utterances("test")]
    assert report(spelled, targets, outcome.predictions["test"])["cer"] < 1
    assert sorted(read_record(job.folder).symbols) == ["a", "b", "c"]
    # A finished one is read again, and may be decoded otherwise: that is no part of what was trained.
    again = run_method(method, replace(job, settings={**settings, "beam": 3, "max_length": 1}))
    assert all(len(text) <= 1 for text in again.predictions["test"])
    assert run_method(method, job).predictions == outcome.predictions


def test_validation_chooses_among_rates_for_symbols_too(spelled: Task, stack: Stack, tmp_path: Path) -> None:
    settings = {**QUICK, "max_epochs": 1, "lr": [1e-6, 1e-2]}
    outcome = run_method("prompt", Job(spelled, stack, tmp_path / "run", settings=settings))
    assert outcome.history[0]["learning_rate"] > 1e-5


@pytest.mark.parametrize("way", ["sequential", "parallel"])
def test_slots_give_scores_of_the_task_s_labels(way: str, stack: Stack, tmp_path: Path) -> None:
    labels = ("a|x", "b|x", "b|y")
    rng = np.random.default_rng(0)

    def rows(n: int) -> list[Utterance]:
        chosen = rng.integers(3, size=n)
        return [
            Utterance(f"{n}-{i}", labels[c], units=30 * c + rng.integers(4, size=8))
            for i, c in enumerate(chosen)
        ]

    splits = {"train": rows(48), "valid": rows(16), "test": rows(12)}
    task = Task("slots", "classification", labels, splits, ("accuracy",), slots=("one", "two"))
    outcome = run_method("prompt", Job(task, stack, tmp_path / "run", settings={**QUICK, "slots": way}))
    assert outcome.scores["test"].shape == (12, 3)
    np.testing.assert_allclose(np.exp(outcome.scores["test"]).sum(1), 1, rtol=1e-4)
    assert outcome.predictions["test"] == [labels[i] for i in outcome.scores["test"].argmax(1)]
    assert outcome.history[-1]["valid_loss"] < outcome.history[0]["valid_loss"]
