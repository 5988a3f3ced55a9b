"""How a language model is trained, what training gave, and when it has stopped to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FLAT_GAIN = 0.01  # a measure that falls by less than this share of itself has flattened
FLAT_CHECKS = 3  # fewer checks say nothing


@dataclass(frozen=True)
class PretrainConfig:
    """How a language model is trained.

    Attributes:
        steps: optimizer steps; the learning rate falls along a half cosine to nothing at the last one.
        batch_tokens: most tokens of a batch, padding counted.
        lr: highest learning rate, reached after `warmup_steps`.
        optimizer: "adamw", or "muon" for Muon on the matrices of the layers and AdamW on all else; see
            `LMOptimizer`.
        betas: of AdamW.
        weight_decay: of matrices; none on vectors (biases, norms).
        clip: largest gradient norm.
        label_smoothing: of the cross entropy.
        p_drop, p_replace: unit augmentation of the training rows.
        seed: of weights, order, augmentation and dropout.
        max_seconds: stop after this time of training; the learning rate then falls with time where that is sooner,
            and runs no longer repeat to the bit. None for no limit.
        check_every: steps between checks on the valid rows, each followed by a checkpoint; the best weights are kept.
        bf16: compute the network in bfloat16.
        device: where to train.
    """

    steps: int = 10_000
    batch_tokens: int = 8_192
    lr: float = 1e-3
    warmup_steps: int = 500
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.0
    p_drop: float = 0.0
    p_replace: float = 0.0
    seed: int = 0
    max_seconds: float | None = None
    check_every: int = 500
    bf16: bool = False
    device: str = "cpu"

    def comparable(self) -> dict[str, Any]:
        """Settings that a resumed run must share; how long it may take and where it runs may change."""
        settings = asdict(self)
        for name in ("max_seconds", "device"):
            del settings[name]
        return settings


@dataclass(frozen=True)
class PretrainResult:
    """What training gave: steps done, seconds, and perplexity per token of the valid rows (`</s>` counted).

    `unigram_perplexity` is what token frequencies of the training rows alone reach. NaN without valid rows.
    measures: all that the family measures on the valid rows, by the log's column names.
    flat_from: the step from which on the valid rows gained less than 1% in all checks that followed; None where they
        gained more, or where there were not three more checks.
    """

    steps: int
    seconds: float
    perplexity: float
    unigram_perplexity: float
    measures: Mapping[str, float] = field(default_factory=dict)
    flat_from: int | None = None


def flat_from(checks: Sequence[tuple[int, float]]) -> int | None:
    """Find where a measure flattened: the first step that all later checks improved on by less than `FLAT_GAIN`.

    checks: (step, value) in order, lower values better. None where the measure has not flattened by its end, or where
    fewer than `FLAT_CHECKS` checks followed.
    """
    best_so_far: list[float] = []
    for _, value in checks:
        best_so_far.append(min(value, best_so_far[-1] if best_so_far else value))
    for place, (step, _) in enumerate(checks[: len(checks) - FLAT_CHECKS]):
        if best_so_far[-1] > best_so_far[place] * (1 - FLAT_GAIN):
            return step
    return None
