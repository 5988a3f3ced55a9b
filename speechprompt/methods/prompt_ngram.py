"""A prompt and a regression on counts of units, each trained by itself, their log-probabilities averaged.

Both read the same views of the same rows, but err on different ones: the regression counts all units of a recording,
wherever they stand, while a prompt reads them in order, as far as the language model follows. The papers have no such
row.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import log_softmax

from speechprompt.methods.base import Job, Outcome
from speechprompt.methods.ngram import ngram
from speechprompt.methods.prompts import prompt
from speechprompt.methods.settings import take
from speechprompt.prompt_config import PromptConfig
from speechprompt.sequence.decoding import DecodingConfig
from speechprompt.train_config import TrainConfig

SHARES = tuple(i / 20 for i in range(21))  # of the regression in the average


def prompt_ngram(job: Job) -> Outcome:
    """Train both, and choose the regression's share by the validation rows. Settings: as of `prompt`."""
    job.require_classification("prompt-ngram")
    reading, training, _ = take(job, "prompt-ngram", PromptConfig(), TrainConfig(), DecodingConfig())
    heard = {
        "speed_perturbation": training.speed_perturbation,
        "offset_perturbation": training.offset_perturbation,
        "n_offsets": reading.n_offsets,
    }
    counted, prompted = ngram(replace(job, settings=heard)), prompt(job)
    targets_N = np.array([job.task.labels.index(row.target) for row in job.task.utterances("valid")])
    share = best_share(prompted.scores["valid"], counted.scores["valid"], targets_N)
    scores = {
        split: averaged(prompted.scores[split], counted.scores[split], share) for split in prompted.scores
    }
    return Outcome.of_scores(
        job,
        scores,
        trainable_parameters=prompted.trainable_parameters + counted.trainable_parameters + 1,
        seconds=round(prompted.seconds + counted.seconds, 3),
        history=prompted.history,
    )


def averaged(first_NC: np.ndarray, second_NC: np.ndarray, share: float) -> np.ndarray:
    """Log-probabilities (N, C) float32: `share` of the second and the rest of the first, normalised again."""
    mixed_NC = (1 - share) * first_NC.astype(np.float64) + share * second_NC
    normalised_NC: np.ndarray = log_softmax(mixed_NC, axis=1)
    return normalised_NC.astype(np.float32)


def best_share(first_NC: np.ndarray, second_NC: np.ndarray, targets_N: np.ndarray) -> float:
    """The share of SHARES that makes right labels the most probable; of equally good ones the smallest.

    By likelihood, which a few rows tell more surely than how many of them are right.
    """
    rows_N = np.arange(len(targets_N))
    return max(SHARES, key=lambda share: averaged(first_NC, second_NC, share)[rows_N, targets_N].sum())
