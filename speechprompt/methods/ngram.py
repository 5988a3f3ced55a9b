"""Logistic regression on counts of units and unit pairs: what the units say without a language model.

The papers compare prompts with fine-tuning the unit LM and with downstream models on continuous features, not
with a classifier on the units themselves. This one sees the same deduplicated units as the prompt and learns
from the same rows; it is tuned on the same validation rows and refitted on nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from units.errors import InputError

LabelledUnits = tuple[np.ndarray, str]  # units (T,) integers, label

SCALINGS = ("sqrt", "tfidf")  # square roots of counts; logarithms of counts weighted by rarity
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C of the regression: the inverse of the L2 penalty
MAX_ITERATIONS = 1000  # of L-BFGS, per fit


@dataclass(frozen=True)
class NgramChoice:
    """The setting that did best on the validation rows."""

    scaling: str  # one of SCALINGS
    strength: float  # one of STRENGTHS
    valid_accuracy: float


def ngram_predictions(
    train: Sequence[LabelledUnits],
    test_units: Sequence[np.ndarray],
    *,
    valid: Sequence[LabelledUnits] = (),
    seed: int = 0,
) -> list[str]:
    """Labels predicted by logistic regression on uni- and bigram counts of deduplicated units.

    Args:
        train: rows to learn from.
        test_units: units (T,) of the rows to label, frame-level or deduplicated.
        valid: rows that choose scaling and C; without them a tenth of train, held out by label and seed.
        seed: of the hold-out. The fit itself has no randomness.

    Returns:
        One label per row of `test_units`. N-grams that train does not hold are not counted.

    Raises:
        InputError: fewer than two labels among the training rows, or no units in any of them.
    """
    predictions, _ = fit_and_predict(train, test_units, valid=valid, seed=seed)
    return predictions


def fit_and_predict(
    train: Sequence[LabelledUnits],
    test_units: Sequence[np.ndarray],
    *,
    valid: Sequence[LabelledUnits] = (),
    seed: int = 0,
) -> tuple[list[str], NgramChoice]:
    """As `ngram_predictions`, with the setting that validation chose; the simplest of equally good ones."""
    labels = sorted({label for _, label in train})
    if len(labels) < 2:
        raise InputError(f"n-grams: expected two or more labels in train, got {labels}; add another class")
    if not any(len(units) for units, _ in train):
        raise InputError(
            "n-grams: expected units in train, got empty sequences only; quantize the audio again"
        )
    fit_rows, valid_rows = (list(train), list(valid)) if valid else _hold_out(train, seed)
    counter = CountVectorizer(analyzer=unit_ngrams)
    fit_counts = counter.fit_transform([units for units, _ in fit_rows])
    valid_counts = counter.transform([units for units, _ in valid_rows])
    test_counts = counter.transform(list(test_units)) if len(test_units) else None
    targets = np.array([label for _, label in fit_rows])
    valid_targets = np.array([label for _, label in valid_rows])

    best: NgramChoice | None = None
    predictions: list[str] = []
    for scaling in SCALINGS:
        rarity = TfidfTransformer(sublinear_tf=True).fit(fit_counts) if scaling == "tfidf" else None
        fit_features, valid_features = _scaled(fit_counts, rarity), _scaled(valid_counts, rarity)
        model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(fit_features, targets)
            accuracy = float(np.mean(model.predict(valid_features) == valid_targets))
            if best is None or accuracy > best.valid_accuracy:
                best = NgramChoice(scaling, strength, accuracy)
                predictions = (
                    [] if test_counts is None else model.predict(_scaled(test_counts, rarity)).tolist()
                )
    assert best is not None  # SCALINGS and STRENGTHS are not empty
    return predictions, best


def unit_ngrams(units: np.ndarray) -> list[tuple[int, ...]]:
    """Uni- and bigrams of a unit sequence (T,) after runs of one unit are collapsed."""
    units = np.asarray(units)
    kept = units[np.insert(np.diff(units) != 0, 0, True)].tolist() if units.size else []
    return [(unit,) for unit in kept] + list(pairwise(kept))


def _scaled(counts: csr_matrix, rarity: TfidfTransformer | None) -> csr_matrix:
    """Counts (n, n_ngrams) turned into features of unit length."""
    return normalize(counts.astype(np.float64).sqrt()) if rarity is None else rarity.transform(counts)


def _hold_out(rows: Sequence[LabelledUnits], seed: int) -> tuple[list[LabelledUnits], list[LabelledUnits]]:
    """A tenth of the rows, by label where every label has rows enough for both parts."""
    labels = [label for _, label in rows]
    smallest = min(labels.count(label) for label in set(labels))
    n_valid = max(len(rows) // 10, len(set(labels)))
    if smallest < 2 or len(rows) - n_valid < len(set(labels)):
        return list(rows), list(rows)  # too few to spare any: the setting is then chosen on the rows it fits
    fit, valid = train_test_split(list(rows), test_size=n_valid, random_state=seed, stratify=labels)
    return fit, valid
