"""Metrics of classification: accuracy, macro-F1, confusion matrix, bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from tasks.base import LabelError
from units.errors import InputError

_DRAWS_AT_ONCE = 4_000_000  # int64 indices held in memory by the bootstrap: 32 MB


class ClassificationReport(TypedDict):
    """Everything measured on one split, ready for JSON."""

    accuracy: float
    macro_f1: float
    interval_95: list[float]  # [low, high] of the accuracy
    n: int
    labels: list[str]
    confusion: list[list[int]]  # [target][prediction], in the order of labels


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> float:
    """Share of predictions that equal their target. Raises InputError on unequal or no lengths."""
    labels = sorted({*targets, *predictions, ""})  # at least two classes, as torchmetrics wants
    target_N, predicted_N = _indices(targets, predictions, labels)
    # From counts: the library's own accuracy is float32, and 285 of 300 would not reach 0.95.
    confusion = multiclass_confusion_matrix(predicted_N, target_N, num_classes=len(labels))
    return int(confusion.trace()) / len(targets)


def macro_f1(targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]) -> float:
    """Mean of the labels' F1, over the labels that occur among targets or predictions.

    Raises InputError on unequal or no lengths, LabelError on a label that is not one of `labels`.
    """
    target_N, predicted_N = _indices(targets, predictions, labels)
    return float(multiclass_f1_score(predicted_N, target_N, num_classes=len(labels), average="macro"))


def confusion_matrix(targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Counts (n_labels, n_labels) int64: row = target, column = prediction, in the order of `labels`.

    Raises as `macro_f1`.
    """
    target_N, predicted_N = _indices(targets, predictions, labels)
    return (
        multiclass_confusion_matrix(predicted_N, target_N, num_classes=len(labels)).numpy().astype(np.int64)
    )


def bootstrap_interval(
    scores: np.ndarray, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-utterance scores.

    Args:
        scores: (n,) numbers, such as 1 where a prediction is right and 0 where it is wrong. All equal scores
            give an interval of no width: the bootstrap knows nothing beyond its sample.
        level: share of the resampled means that the interval holds.
        n_resamples: how often n scores are drawn with replacement.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high).

    Raises InputError without scores. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.size == 0:
        raise InputError("bootstrap: expected at least one score, got none; evaluate a split with utterances")
    rng = np.random.default_rng(seed)
    rows_at_once = max(1, _DRAWS_AT_ONCE // scores.size)
    means = [
        scores[rng.integers(scores.size, size=(min(rows_at_once, n_resamples - start), scores.size))].mean(
            axis=1
        )
        for start in range(0, n_resamples, rows_at_once)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def classification_report(
    targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str], *, seed: int = 0
) -> ClassificationReport:
    """All metrics of one split; `seed` is the bootstrap's. Raises as `macro_f1`."""
    confusion = confusion_matrix(targets, predictions, labels)
    right_N = np.array(
        [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    )
    return {
        "accuracy": accuracy(targets, predictions),
        "macro_f1": macro_f1(targets, predictions, labels),
        "interval_95": list(bootstrap_interval(right_N, seed=seed)),
        "n": len(targets),
        "labels": list(labels),
        "confusion": confusion.tolist(),
    }


def _indices(
    targets: Sequence[str], predictions: Sequence[str], labels: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and predictions as (N,) int64 indices into `labels`."""
    if len(targets) != len(predictions) or not targets:
        raise InputError(
            f"metrics: expected as many predictions as targets, at least one, got {len(predictions)} and "
            f"{len(targets)}; evaluate a split with utterances"
        )
    index = {label: i for i, label in enumerate(labels)}
    unknown = sorted({*targets, *predictions} - index.keys())
    if unknown:
        raise LabelError(
            f"metrics: expected one of {len(index)} labels, got {unknown[0]!r}; pass every label"
        )
    target_N = torch.tensor([index[label] for label in targets])
    return target_N, torch.tensor([index[label] for label in predictions])
