"""A prompt and counts together: the average of two opinions, and how much each of them counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt.methods import Job, run_method
from speechprompt.methods.prompt_ngram import averaged, best_share
from speechprompt.stack_folder import load_stack
from tasks.base import Task, Utterance

LABELS = ("falls", "high", "low", "rises")


def planted(n: int, seed: int) -> list[Utterance]:
    """Rows that counts tell apart ("low", "high"), and rows of the same units in either order."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = LABELS[i % 4]
        start = {"low": 0, "high": 60}.get(label, 30)
        units = np.sort(start + rng.permutation(20)[: int(rng.integers(6, 12))])
        rows.append(Utterance(f"{seed}-{i}", label, units=units[::-1] if label == "falls" else units))
    return rows


def log_probabilities(seed: int, n: int = 30) -> np.ndarray:
    scores_NC = np.random.default_rng(seed).normal(scale=3, size=(n, 4))
    return averaged(scores_NC, scores_NC, 0.0)


def log_likelihood(scores_NC: np.ndarray, targets_N: np.ndarray) -> float:
    return float(scores_NC[np.arange(len(targets_N)), targets_N].sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_an_average_is_a_distribution_between_the_two(seed: int, share: float) -> None:
    first, second = log_probabilities(seed), log_probabilities(seed + 1)
    mixed = averaged(first, second, share)
    np.testing.assert_allclose(np.exp(mixed).sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(averaged(second, first, 1 - share), mixed, atol=1e-4)
    np.testing.assert_allclose(averaged(first, second, 0.0), first, atol=1e-5)
    targets = np.random.default_rng(seed + 2).integers(4, size=len(first))
    best = averaged(first, second, best_share(first, second, targets))
    alone = max(log_likelihood(first, targets), log_likelihood(second, targets))
    assert log_likelihood(best, targets) >= alone - 1e-3


def test_who_is_right_counts_alone() -> None:
    targets = np.arange(30) % 4
    right = np.log(np.full((30, 4), 0.01 / 3) + 0.9866 * np.eye(4)[targets])
    wrong = averaged(np.roll(right, 1, axis=1), right, 0.0)
    assert best_share(right, wrong, targets) == 0 and best_share(wrong, right, targets) == 1
    assert best_share(right, right, targets) == 0


def test_both_are_trained_on_the_same_rows_and_their_weights_add_up(tiny_stack: Path, tmp_path: Path) -> None:
    splits = {"train": planted(96, 0), "valid": planted(48, 1), "test": planted(48, 2)}
    task = Task("planted", "classification", LABELS, splits, ("accuracy",))
    stack = load_stack(tiny_stack)
    quick = {"max_epochs": 6, "lr": 0.02, "batch_rows": 8, "unit_dropout": 0.0, "average_epochs": 1}
    targets = np.array([LABELS.index(row.target) for row in task.utterances("valid")])
    outcomes = {
        name: run_method(name, Job(task, stack, tmp_path / name, settings={} if name == "ngram" else quick))
        for name in ("prompt", "ngram", "prompt-ngram")
    }
    both = outcomes["prompt-ngram"]
    alone = [outcomes[name] for name in ("prompt", "ngram")]
    assert both.trainable_parameters == sum(outcome.trainable_parameters for outcome in alone) + 1
    assert both.seconds >= outcomes["ngram"].seconds / 10 and both.history[-1]["epoch"] == 6
    share = best_share(alone[0].scores["valid"], alone[1].scores["valid"], targets)
    for split, scores_NC in both.scores.items():
        np.testing.assert_allclose(
            scores_NC, averaged(*(outcome.scores[split] for outcome in alone), share), atol=1e-4
        )
    reached = [log_likelihood(outcome.scores["valid"], targets) for outcome in (both, *alone)]
    assert reached[0] >= max(reached[1:]) - 1e-3


def test_what_a_prompt_is_not_told_is_refused(tiny_stack: Path, tmp_path: Path) -> None:
    task = Task("planted", "classification", LABELS, {"train": planted(8, 0), "valid": planted(8, 1)}, ())
    with pytest.raises(ValueError, match="prompt-ngram: expected settings out of"):
        run_method("prompt-ngram", Job(task, load_stack(tiny_stack), tmp_path, settings={"rank": 4}))
