"""All methods by one signature: on planted rows of units, killed, repeated, and asked for what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt.checkpoint import PROMPT_FILE, load_prompt
from speechprompt.methods import METHODS, Job, MethodError, Outcome, run_method
from speechprompt.methods.settings import by_validation
from speechprompt.run import load_run
from speechprompt.run_record import RunError, RunExistsError, read_record
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from tasks.base import Kind, Task, Utterance
from tasks.metrics import accuracy

LABELS = ("high", "low", "middle")
ON_THE_LM = ("prompt", "input-prompt", "lora", "finetune")
QUICK: dict[str, Any] = {
    "max_epochs": 3,
    "lr": 0.02,
    "batch_rows": 8,
    "unit_dropout": 0.0,
    "average_epochs": 1,
}
SETTINGS = {method: {**QUICK, "lr": 3e-3} if method == "finetune" else QUICK for method in ON_THE_LM}
SETTINGS["finetune"]["warmup_steps"] = 5


def planted(n: int, seed: int) -> list[Utterance]:
    """Rows whose label says from which four units they come."""
    rng = np.random.default_rng(seed)
    thirds = {"low": 0, "middle": 33, "high": 66}
    rows = []
    for i in range(n):
        label = LABELS[int(rng.integers(3))]
        units = thirds[label] + rng.integers(4, size=int(rng.integers(4, 12)))
        rows.append(Utterance(f"{seed}-{i}", label, units=units))
    return rows


@pytest.fixture(scope="module")
def task() -> Task:
    splits = {"train": planted(72, 0), "valid": planted(30, 1), "test": planted(40, 2)}
    return Task("planted", "classification", LABELS, splits, ("accuracy",))


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_no_waiting_for_the_disk() -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.atomic.os.fsync", lambda descriptor: None)
        yield


def without_seconds(outcome: Outcome) -> list[dict[str, float]]:
    return [{**row, "seconds": 0.0} for row in outcome.history]


@pytest.mark.parametrize("method", ["prompt", "input-prompt", "lora", "finetune", "ngram"])
def test_a_method_learns_from_units_and_leaves_the_stack_as_it_was(
    method: str, task: Task, stack: Stack, tmp_path: Path
) -> None:
    values = {name: tensor.clone() for name, tensor in stack.lm.state_dict().items()}
    modules = [name for name, _ in stack.lm.named_modules()]
    settings = dict(SETTINGS.get(method, {}))
    if method.endswith("prompt"):  # few weights that steer a model of random ones need longer
        settings |= {"max_epochs": 10, "pool": "mean"}
    outcome = run_method(method, Job(task, stack, tmp_path / "run", settings=settings))
    assert set(outcome.predictions) == set(outcome.scores) == {"valid", "test"}
    for split, scores_NC in outcome.scores.items():
        targets = [utterance.target for utterance in task.utterances(split)]
        assert scores_NC.shape == (len(targets), len(LABELS)) and scores_NC.dtype == np.float32
        np.testing.assert_allclose(np.exp(scores_NC).sum(1), 1, rtol=1e-4)
        assert outcome.predictions[split] == [LABELS[i] for i in scores_NC.argmax(1)]
        assert accuracy(targets, outcome.predictions[split]) > 0.7, split
    assert outcome.trainable_parameters > 0 and outcome.seconds > 0
    assert len(outcome.history) == settings.get("max_epochs", 0)
    if method in ON_THE_LM:  # what is kept is the best epoch, which validation rows told
        kept = accuracy([u.target for u in task.utterances("valid")], outcome.predictions["valid"])
        assert kept == max(row["valid_accuracy"] for row in outcome.history)
    assert [name for name, _ in stack.lm.named_modules()] == modules
    assert all(torch.equal(tensor, values[name]) for name, tensor in stack.lm.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in stack.lm.parameters())
    assert not any(module.training for module in stack.lm.modules())


@pytest.mark.parametrize("method", ["lora", "finetune"])
def test_a_killed_method_continues_to_the_bit_and_a_finished_one_is_read(
    method: str, task: Task, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechprompt import checkpoint

    settings = {**SETTINGS[method], "max_epochs": 2, "checkpoint_steps": 2}
    whole = run_method(method, Job(task, stack, tmp_path / "whole", settings=settings))
    killed = Job(task, stack, tmp_path / "killed", settings=settings)
    counts = iter(range(3))

    def interrupting(folder: Path, state: dict) -> None:
        if next(counts, None) is None:
            raise KeyboardInterrupt
        checkpoint.save_state(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.trainer.save_state", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run_method(method, killed)
    continued = run_method(method, killed)
    assert without_seconds(continued) == without_seconds(whole)
    assert (killed.folder / PROMPT_FILE).read_bytes() == (tmp_path / "whole" / PROMPT_FILE).read_bytes()

    def no_training(*arguments: object, **options: object) -> None:
        raise AssertionError("a finished run is not trained again")

    monkeypatch.setattr("speechprompt.methods.unit_classifier.train_module", no_training)
    again = run_method(method, killed)
    assert again.history == continued.history and again.seconds == continued.seconds
    for split, scores_NC in whole.scores.items():
        np.testing.assert_array_equal(again.scores[split], scores_NC)
    with pytest.raises(RunExistsError, match="differs in seed"):
        run_method(method, replace(killed, seed=1))
    with pytest.raises(RunError, match=f"method {method}"):
        load_run(killed.folder, stack=stack)


def test_a_prompts_run_is_one_that_the_commands_read(task: Task, stack: Stack, tmp_path: Path) -> None:
    outcome = run_method("prompt", Job(task, stack, tmp_path / "run", 3, {**QUICK, "prompt_length": 2}))
    run = load_run(tmp_path / "run", stack=stack)
    assert run.record.prompt["length"] == 2 and run.record.prompt["seed"] == run.record.training["seed"] == 3
    assert run.prompted.n_trainable == outcome.trainable_parameters
    assert run.history == outcome.history
    assert "lm." not in "".join(load_prompt(run.folder, stack.lm.fingerprint()))


def test_rows_of_units_are_not_repeated_for_speeds(task: Task, stack: Stack, tmp_path: Path) -> None:
    outcome = run_method("prompt", Job(task, stack, tmp_path / "run", settings={**QUICK, "max_epochs": 1}))
    assert read_record(tmp_path / "run").training["speed_perturbation"] == [0.8, 0.9, 1.0, 1.12, 1.25]
    assert outcome.history[0]["step"] == pytest.approx(len(task.utterances("train")) / 8, abs=2)


def test_seeds_differ_and_repeat(task: Task, stack: Stack, tmp_path: Path) -> None:
    jobs = [
        Job(task, stack, tmp_path / name, seed, {**QUICK, "max_epochs": 1})
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    one, same, other = (run_method("lora", job).scores["test"] for job in jobs)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_validation_chooses_the_learning_rate(task: Task, stack: Stack, tmp_path: Path) -> None:
    settings = {**QUICK, "lr": [1e-6, 0.02]}
    chosen = run_method("prompt", Job(task, stack, tmp_path / "both", settings=settings))
    alone = run_method("prompt", Job(task, stack, tmp_path / "one", settings={**settings, "lr": 0.02}))
    np.testing.assert_array_equal(chosen.scores["test"], alone.scores["test"])
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["lr-0.02", "lr-1e-06"]
    poor = read_record(tmp_path / "both" / "lr-1e-06").metrics["valid"]["accuracy"]
    assert poor < max(row["valid_accuracy"] for row in chosen.history)
    assert chosen.seconds > max(row["seconds"] for row in chosen.history)


def test_equal_accuracies_are_told_apart_by_loss(task: Task, stack: Stack, tmp_path: Path) -> None:
    losses = {1e-3: 0.5, 1e-2: 0.4, 1e-1: 0.6}

    def run(job: Job) -> Outcome:
        row = {"valid_accuracy": 0.9, "valid_loss": losses[job.settings["lr"]]}
        return Outcome({}, {}, int(1000 * job.settings["lr"]), 1.0, [row])

    outcome = by_validation(Job(task, stack, tmp_path), list(losses), run)
    assert (outcome.trainable_parameters, outcome.seconds) == (10, 3.0)


def test_the_majority_is_the_most_frequent_training_label(task: Task, stack: Stack, tmp_path: Path) -> None:
    outcome = run_method("majority", Job(task, stack, tmp_path / "run"))
    targets = [utterance.target for utterance in task.utterances("train")]
    most = max(sorted(set(targets)), key=targets.count)
    assert outcome.predictions == {"valid": [most] * 30, "test": [most] * 40}
    assert (outcome.scores, outcome.trainable_parameters, outcome.history) == ({}, 0, [])


def test_ngrams_score_a_label_without_training_rows_lowest(task: Task, stack: Stack, tmp_path: Path) -> None:
    splits = {
        name: [row for row in rows if row.target != "middle"] if name == "train" else rows
        for name, rows in task.splits.items()
    }
    outcome = run_method("ngram", Job(replace(task, splits=splits), stack, tmp_path / "run"))
    assert set(outcome.predictions["test"]) == {"high", "low"}
    scores_NC = outcome.scores["test"]
    assert np.isfinite(scores_NC).all() and (scores_NC.argmin(1) == LABELS.index("middle")).all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_a_method_cannot_do_or_does_not_know_is_named(
    method: str, task: Task, stack: Stack, tmp_path: Path
) -> None:
    with pytest.raises(MethodError, match=f"^(prompt|{method}): expected settings .*'learning_rat'"):
        run_method(method, Job(task, stack, tmp_path / "run", settings={"learning_rat": 1}))
    kind: Kind
    for kind in ("generation",) if method in ON_THE_LM else ("sequence", "generation"):
        spoken = Task("spoken", kind, (), task.splits, ("cer",))
        with pytest.raises(MethodError, match=f"expected a classification .*got spoken of kind {kind}"):
            run_method(method, Job(spoken, stack, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_head_needs_audio(task: Task, stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="expected recordings, got units alone"):
        run_method("head", Job(task, stack, tmp_path / "run"))


def test_an_unknown_method_is_named_with_the_choices(task: Task, stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(
        MethodError,
        match=r"prompt, input-prompt, lora, finetune, head, ngram, prompt-ngram, majority, got 'nearest'",
    ):
        run_method("nearest", Job(task, stack, tmp_path / "run"))


def test_the_documentation_names_every_method_and_setting() -> None:
    from dataclasses import fields

    from speechprompt.methods.finetune import FinetuneSettings
    from speechprompt.methods.head import HeadSettings
    from speechprompt.methods.lora import LoraSettings
    from speechprompt.methods.ngram import NgramSettings

    text = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    own = [
        field.name
        for c in (LoraSettings, FinetuneSettings, HeadSettings, NgramSettings)
        for field in fields(c)
    ]
    assert [name for name in [*METHODS, *own] if f"`{name}`" not in text] == []
