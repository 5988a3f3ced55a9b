"""What a server does with recordings and units: one lane for labels, another for what is generated step by step.

Shapes: n units of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from speechprompt.decode import SamplingConfig
from speechprompt.generate.continuation import Continuation, continue_speech
from speechprompt.serve.errors import ServeError
from speechprompt.serve.lane import Lane
from speechprompt.serve.limits import Limits
from speechprompt.serve.runs import Runs, ServedRun
from speechprompt.serve.shared_pass import Row, Top, answer_rows, most_units
from speechprompt.views import View, offset_views


@dataclass(frozen=True, eq=False)
class Question:
    """What do these runs say about a recording, or about units? wave: (n_samples,) float32, or None; units: or (n,)."""

    runs: tuple[ServedRun, ...]
    wave: np.ndarray | None = None
    units: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """What one run says. top: the likeliest labels with probabilities, or one text. truncated: units were cut off."""

    run: str
    top: Top
    n_units: int
    truncated: bool


@dataclass(frozen=True, eq=False)
class Wish:
    """A continuation of a wave (n_samples,) float32; see `continue_speech`."""

    wave: np.ndarray
    seed_s: float
    length_s: float
    sampling: SamplingConfig
    speaker: str | None = None


def _views(question: Question) -> set[View]:
    """How a question's recording is heard for all its runs; not at all where it comes as units."""
    if question.wave is None:
        return set()
    return {view for served in question.runs for view in offset_views(served.run.n_offsets)}


class Engine:
    """Answers questions of all runs, and continues recordings, each kind in a thread of its own.

    Args:
        runs: whose stack everything runs on.
        limits: of batches and queues.
        seen: told lane, items and weight (tokens; of the generating lane items) of every batch.
    """

    def __init__(
        self,
        runs: Runs,
        limits: Limits,
        *,
        seen: Callable[[str, int, int], None] = lambda lane, n_items, weight: None,
    ) -> None:
        self.runs, self.limits = runs, limits
        self.labels: Lane[Question, tuple[Answer, ...]] = Lane(
            "labels",
            self._answer,
            budget=limits.batch_tokens,
            capacity=limits.queue,
            wait_s=limits.wait_s,
            seen=lambda n, weight: seen("labels", n, weight),
        )
        self.generation: Lane[Question | Wish, tuple[Answer, ...] | Continuation] = Lane(
            "generation",
            self._generate,
            budget=1,
            capacity=limits.queue,
            seen=lambda n, weight: seen("generation", n, weight),
        )

    def warm_up(self) -> None:
        """Load what the stack has, so that no request waits for it and no two threads load it at once."""
        stack = self.runs.stack
        _ = stack.lm
        if stack.encoder is not None:
            _ = stack.quantizer
        if stack.vocoder_part is not None:
            _ = stack.vocoder

    def ask(self, questions: Sequence[Question]) -> list[Future[tuple[Answer, ...]]]:
        """Queue questions, all or none. Each future gives one answer for every run asked, in order.

        Texts are decoded symbol by symbol: they wait among what is generated, so that labels do not wait for them.
        Raises: ServeError as `Lane.submit`; (422) for units that the language model does not know, or that it labels
        together with their prosody alone.
        """
        for question in questions:
            if question.units is not None:
                self._require_known(question.units)
                self._require_enough(question.runs)
        if any(served.run.record.symbols for question in questions for served in question.runs):
            return self.generation.submit(questions, [1] * len(questions))  # type: ignore[return-value]
        return self.labels.submit(questions, [self._tokens(question) for question in questions])

    def continue_recording(self, wish: Wish) -> Future[Continuation]:
        """Queue a continuation. Raises: ServeError as `Lane.submit`; (422) for more than the limits allow."""
        if not 0 < wish.length_s <= self.limits.new_s:
            raise ServeError(
                422,
                f"length_s: expected above 0 and at most {self.limits.new_s:g} s, got {wish.length_s:g}; ask for less",
            )
        [future] = self.generation.submit([wish], [1])
        return future  # type: ignore[return-value]

    def close(self) -> None:
        """Finish what is queued."""
        self.labels.close()
        self.generation.close()

    def _tokens(self, question: Question) -> int:
        """Tokens that a question's rows take, of a recording about, before it has been quantized."""
        if question.units is not None:
            n_units = len(question.units)
        else:
            assert question.wave is not None
            stack = self.runs.stack
            n_units = int(len(question.wave) / stack.quantizer.sample_rate * stack.spec.frame_rate)
        n_rows = sum(1 if question.wave is None else served.run.n_offsets for served in question.runs)
        return (n_units + 2) * n_rows

    def _require_known(self, units: np.ndarray) -> None:
        n_units = self.runs.stack.spec.n_units
        if not len(units) or units.min() < 0 or units.max() >= n_units:
            got = f"{units.min()} to {units.max()}" if len(units) else "none"
            raise ServeError(
                422,
                f"units: expected at least one, each from 0 to {n_units - 1}, got {got}; use this stack's units",
            )

    def _require_enough(self, runs: Sequence[ServedRun]) -> None:
        """Raise where units alone are not all that one of the runs reads; texts are said of units alone."""
        if any(not served.run.record.symbols for served in runs) and self.runs.stack.reads_prosody:
            raise ServeError(
                422,
                "units: expected a recording, because the language model reads durations and F0, got units alone; send "
                "audio to /classify",
            )

    def _answer(self, questions: Sequence[Question]) -> list[tuple[Answer, ...]]:
        stack = self.runs.stack
        prosody = any(not served.run.record.symbols for question in questions for served in question.runs)
        heard: dict[View, Iterator[np.ndarray]] = {}
        for view in sorted({view for question in questions for view in _views(question)}):
            waves = [q.wave for q in questions if q.wave is not None and view in _views(q)]
            heard[view] = iter(stack.units_in_views(waves, [view], prosody=prosody)[0])
        asked: list[Row] = []
        for question in questions:
            units_of = {view: next(heard[view]) for view in sorted(_views(question))}
            for served in question.runs:
                asked.append(
                    (served, [units_of[view] for view in offset_views(served.run.n_offsets)])
                    if question.units is None
                    else (served, [stack.as_read(question.units)])
                )
        answers = iter(
            [
                Answer(served.name, top, len(units), len(units) > most_units(served))
                for (served, [units, *_]), top in zip(
                    asked, answer_rows(asked, batch_tokens=self.limits.batch_tokens), strict=True
                )
            ]
        )
        return [tuple(next(answers) for _ in question.runs) for question in questions]

    def _generate(self, items: Sequence[Question | Wish]) -> list[tuple[Answer, ...] | Continuation]:
        done: list[tuple[Answer, ...] | Continuation] = []
        for item in items:
            if isinstance(item, Question):
                done += self._answer([item])
            else:
                done.append(
                    continue_speech(
                        self.runs.stack,
                        item.wave,
                        seed_s=item.seed_s,
                        length_s=item.length_s,
                        sampling=item.sampling,
                        speaker=item.speaker,
                    )
                )
        return done
