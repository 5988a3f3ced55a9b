"""What the quickstart found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechprompt.evaluation import Prediction
from speechprompt.generate.continuation import Continuation
from speechprompt.methods.ngram import NgramChoice
from speechprompt.run import Run
from tasks.base import Task, Utterance
from tasks.metrics import ClassificationReport
from units.types import UnitSequence, Wave


@dataclass(frozen=True, eq=False)
class QuickstartResult:
    """Everything that the quickstart's metrics and report are made from.

    run, task: the trained prompt and its data. test, majority, ngram: measured on the same held-out clips.
    ngram_choice: the baseline's setting. clips, clip_waves, clip_units, predictions: a few test clips, drawn by seed.
    sentence, sentence_units: a read sentence. spoken, spoken_units: the vocoder's version of it, and what the
    quantizer hears in that. unit_error_rate: of these units against the sentence's.
    continuations: of the sentence's first seed_s seconds, length_s seconds long, sampled at temperature.
    seed: of everything. seconds: spent until the report was begun.
    """

    run: Run
    task: Task
    test: ClassificationReport
    majority: ClassificationReport
    ngram: ClassificationReport
    ngram_choice: NgramChoice
    clips: Sequence[Utterance]
    clip_waves: Sequence[Wave]
    clip_units: Sequence[UnitSequence]
    predictions: Sequence[Prediction]
    sentence: Wave
    sentence_units: UnitSequence
    spoken: Wave
    spoken_units: UnitSequence
    unit_error_rate: float
    continuations: Sequence[Continuation]
    seed_s: float
    length_s: float
    temperature: float
    seed: int
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """Give the content of metrics.json: plain numbers, shares to six digits, and names."""
        record = self.run.record
        content = {
            "accuracy": self.test["accuracy"],
            "baseline_majority": self.majority["accuracy"],
            "baseline_ngram": self.ngram["accuracy"],
            "trainable_parameters": record.trainable_parameters,
            "frozen_parameters": record.frozen_parameters,
            "seconds": round(self.seconds, 1),
            "interval_95": self.test["interval_95"],
            "macro_f1": self.test["macro_f1"],
            "n": self.test["n"],
            "epochs": len(self.run.history),
            "resynthesis_unit_error_rate": self.unit_error_rate,
            "stack": self.run.stack.name,
            "seed": self.seed,
        }
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in content.items()}
