"""Logistic regression on counts of units and unit pairs: what the units say without a language model.

The papers compare prompts with fine-tuning the unit LM and with downstream models on continuous features, not
with a classifier on the units themselves. This one sees the same units as the prompt and learns from the same rows;
it is tuned on the same validation rows, which also say whether it does better without repeats, and refitted on nothing
more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from speechprompt.methods.base import Job, Outcome
from speechprompt.methods.settings import take
from speechprompt.task_units import labelled_units, views_of
from speechprompt.train_config import TrainConfig
from speechprompt.training import classification_rows
from speechprompt.views import mean_over_views
from units.errors import InputError

LabelledUnits = tuple[np.ndarray, str]  # units (T,) integers, label

SCALINGS = ("sqrt", "tfidf")  # square roots of counts; logarithms of counts weighted by rarity
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C of the regression: the inverse of the L2 penalty
MAX_ITERATIONS = 1000  # of L-BFGS, per fit
LOWEST = -100.0  # log-probability of a label that train does not hold


@dataclass(frozen=True)
class NgramChoice:
    """The setting that did best on the validation rows."""

    runs: str  # key of ANALYZERS
    scaling: str  # one of SCALINGS
    strength: float  # one of STRENGTHS
    valid_accuracy: float


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A fitted regression with what makes its features. labels: in the order of the scores' columns."""

    counter: CountVectorizer
    rarity: TfidfTransformer | None
    regression: LogisticRegression
    choice: NgramChoice

    @property
    def labels(self) -> list[str]:
        """The labels that train holds, sorted."""
        labels: list[str] = self.regression.classes_.tolist()
        return labels

    @property
    def n_parameters(self) -> int:
        """Weights and biases of the regression."""
        return int(self.regression.coef_.size + self.regression.intercept_.size)

    def scores(self, units: Sequence[np.ndarray], *, n_views: int = 1) -> np.ndarray:
        """Log-probabilities (N, n_labels) float32 of unit rows, or of recordings in `n_views` views each."""
        if not len(units):
            return np.zeros((0, len(self.labels)), np.float32)
        features = _scaled(self.counter.transform(list(units)), self.rarity)
        log_p_MC = torch.from_numpy(self.regression.predict_log_proba(features))
        scores_NC: np.ndarray = mean_over_views(log_p_MC, n_views).numpy()
        return scores_NC


@dataclass(frozen=True)
class NgramSettings:
    """What the counts are of.

    speed_perturbation, offset_perturbation: the views of training recordings, see TrainConfig; empty and 1 for their
    own alone. n_offsets: the views of the others, see PromptConfig.
    """

    speed_perturbation: tuple[float, ...] = ()
    offset_perturbation: int = 1
    n_offsets: int = 1


def ngram(job: Job) -> Outcome:
    """Count n-grams of the training rows, choose and fit the regression, and label the other splits."""
    job.require_classification("ngram")
    [settings] = take(job, "ngram", NgramSettings())
    started, labels = monotonic(), job.task.labels
    config = TrainConfig(
        speed_perturbation=settings.speed_perturbation, offset_perturbation=settings.offset_perturbation
    )
    train_rows, valid_rows = classification_rows(
        job.task, job.stack, config, n_offsets=settings.n_offsets, prosody=False, progress=job.progress
    )
    train, valid = ([(row.units, labels[row.label]) for row in rows] for rows in (train_rows, valid_rows))
    model = fit(train, valid=valid, seed=job.seed)
    seconds = round(monotonic() - started, 3)
    columns = [labels.index(label) for label in model.labels]
    scores = {}
    for split in job.judged_splits:
        views = views_of(job.task.utterances(split), settings.n_offsets)
        rows = labelled_units(job.task, split, job.stack, views=views, prosody=False, progress=job.progress)
        known = model.scores([row.units for row in rows], n_views=len(views)).clip(LOWEST)
        scores[split] = np.full((len(known), len(labels)), LOWEST, np.float32)
        scores[split][:, columns] = known
    return Outcome.of_scores(
        job, scores, trainable_parameters=model.n_parameters, seconds=seconds, history=[]
    )


def ngram_predictions(
    train: Sequence[LabelledUnits],
    test_units: Sequence[np.ndarray],
    *,
    valid: Sequence[LabelledUnits] = (),
    seed: int = 0,
) -> list[str]:
    """Labels predicted by logistic regression on uni- and bigram counts of units.

    Args:
        train: rows to learn from.
        test_units: units (T,) of the rows to label, frame-level or deduplicated.
        valid: rows that choose scaling, C and, where units repeat, whether runs count as one; without them a tenth of
            train, held out by label and seed.
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
    n_views: int = 1,
) -> tuple[list[str], NgramChoice]:
    """As `ngram_predictions`, with the setting that validation chose; the simplest of equally good ones.

    n_views: how often each test recording is among the rows; its predictions are averaged, see `mean_over_views`.
    """
    model = fit(train, valid=valid, seed=seed)
    scores_NC = model.scores(test_units, n_views=n_views)
    return [model.labels[i] for i in scores_NC.argmax(1)], model.choice


def fit(train: Sequence[LabelledUnits], *, valid: Sequence[LabelledUnits] = (), seed: int = 0) -> NgramModel:
    """Fit the regression that does best on the validation rows. Arguments and errors as of `ngram_predictions`."""
    labels = sorted({label for _, label in train})
    if len(labels) < 2:
        raise InputError(f"n-grams: expected two or more labels in train, got {labels}; add another class")
    if not any(len(units) for units, _ in train):
        raise InputError(
            "n-grams: expected units in train, got empty sequences only; quantize the audio again"
        )
    fit_rows, valid_rows = (list(train), list(valid)) if valid else _hold_out(train, seed)
    repeats = any((np.diff(units) == 0).any() for units, _ in fit_rows)
    models = [
        model for runs in (ANALYZERS if repeats else ("one",)) for model in _fits(fit_rows, valid_rows, runs)
    ]
    return max(models, key=lambda model: model.choice.valid_accuracy)  # of equally good ones the first


def _fits(
    fit_rows: Sequence[LabelledUnits], valid_rows: Sequence[LabelledUnits], runs: str
) -> Iterator[NgramModel]:
    """The best regression of every scaling."""
    counter = CountVectorizer(analyzer=ANALYZERS[runs])
    fit_counts = counter.fit_transform([units for units, _ in fit_rows])
    valid_counts = counter.transform([units for units, _ in valid_rows])
    targets = np.array([label for _, label in fit_rows])
    valid_targets = np.array([label for _, label in valid_rows])
    for scaling in SCALINGS:
        rarity = TfidfTransformer(sublinear_tf=True).fit(fit_counts) if scaling == "tfidf" else None
        fit_features, valid_features = _scaled(fit_counts, rarity), _scaled(valid_counts, rarity)
        regression = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
        best: NgramModel | None = None
        for strength in STRENGTHS:
            regression.set_params(C=strength).fit(fit_features, targets)
            accuracy = float(np.mean(regression.predict(valid_features) == valid_targets))
            if best is None or accuracy > best.choice.valid_accuracy:
                choice = NgramChoice(runs, scaling, strength, accuracy)
                best = NgramModel(counter, rarity, copy.deepcopy(regression), choice)
        assert best is not None  # STRENGTHS is not empty
        yield best


def unit_ngrams(units: np.ndarray) -> list[tuple[int, ...]]:
    """Uni- and bigrams of a unit sequence (T,) after runs of one unit are collapsed."""
    units = np.asarray(units)
    return frame_ngrams(units[np.insert(np.diff(units) != 0, 0, True)] if units.size else units)


def frame_ngrams(units: np.ndarray) -> list[tuple[int, ...]]:
    """Uni- and bigrams of a unit sequence (T,) as it is: counts then say how long units last."""
    given = np.asarray(units).tolist()
    return [(unit,) for unit in given] + list(pairwise(given))


ANALYZERS = {"one": unit_ngrams, "every frame": frame_ngrams}  # what a run of one unit counts as


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
