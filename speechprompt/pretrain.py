"""Training of a unit language model on unit sequences, from nothing, resumable.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechprompt.augment import UnitAugmentation, augment_row
from speechprompt.batch import shuffled_plan
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.perplexity import padded, perplexity, row_losses, rows_of, unigram_perplexity
from speechprompt.vocab import UnitVocab
from units.atomic import atomic_path
from units.errors import InputError

LOG_COLUMNS = ["step", "epoch", "lr", "train_perplexity", "valid_perplexity", "seconds"]


@dataclass(frozen=True)
class PretrainConfig:
    """How a language model is trained.

    Attributes:
        steps: optimizer steps; the learning rate falls along a half cosine to nothing at the last one.
        batch_tokens: most tokens of a batch, padding counted.
        lr: highest learning rate, reached after `warmup_steps`.
        betas, weight_decay: of AdamW; no decay on vectors (biases, norms).
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


@dataclass(frozen=True)
class PretrainResult:
    """What training gave: steps done, seconds, and perplexity per token of the valid rows (`</s>` counted).

    `unigram_perplexity` is what token frequencies of the training rows alone reach. NaN without valid rows.
    """

    steps: int
    seconds: float
    perplexity: float
    unigram_perplexity: float


class _Run:
    """One training run: model, optimizer, and the state that a checkpoint holds."""

    def __init__(self, lm: GSLM, config: PretrainConfig, out: Path) -> None:
        self.lm, self.config, self.out = lm, config, out
        matrices = [p for p in lm.parameters() if p.ndim > 1]
        vectors = [p for p in lm.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        self.step, self.epoch, self.index = 0, 0, 0  # index: batches of the epoch done
        self.seconds, self.best = 0.0, math.inf
        self.log: list[list[str]] = []  # in the checkpoint as well, so that a resumed log has no line twice

    @property
    def checkpoint(self) -> Path:
        return self.out / "resume.pt"

    def lr(self) -> float:
        """Linear warm-up, then half a cosine over steps or time, whichever is further."""
        config = self.config
        progress = self.step / config.steps
        if config.max_seconds:
            progress = max(progress, self.seconds / config.max_seconds)
        warmup = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def finished(self) -> bool:
        limit = self.config.max_seconds
        return self.step >= self.config.steps or (limit is not None and self.seconds >= limit)

    def update(self, row_BT: Tensor) -> float:
        """One optimizer step; returns the loss in nats per token."""
        config, device_type = self.config, torch.device(self.config.device).type
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        with torch.autocast(device_type, torch.bfloat16, enabled=config.bf16):
            loss = (
                row_losses(self.lm, row_BT, config.label_smoothing).sum()
                / row_BT[:, 1:].ne(self.lm.vocab.pad).sum()
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.lm.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def save(self) -> None:
        state = {
            "lm": self.lm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": [self.step, self.epoch, self.index],
            "floats": [self.seconds, self.best],
            "log": self.log,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "config": _comparable(self.config),
        }
        with atomic_path(self.checkpoint) as file:
            torch.save(state, file)

    def load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["config"] != _comparable(self.config):
            raise InputError(
                f"{self.checkpoint}: expected the settings it was written with; use another folder"
            )
        try:
            self.lm.load_state_dict(state["lm"])
        except RuntimeError as error:
            raise InputError(
                f"{self.checkpoint}: expected a model of this size; use another folder"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.index = state["counts"]
        self.seconds, self.best = state["floats"]
        self.log = state["log"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def _comparable(config: PretrainConfig) -> dict[str, Any]:
    """Settings that a resumed run must share; how long it may take and where it runs may change."""
    settings = asdict(config)
    for name in ("max_seconds", "device"):
        del settings[name]
    return settings


def pretrain_lm(
    transformer: TransformerConfig,
    vocab: UnitVocab,
    sequences: Sequence[np.ndarray],
    out: str | Path,
    config: PretrainConfig | None = None,
    *,
    valid: Sequence[np.ndarray] = (),
    resume: bool = True,
    half: bool = False,
) -> PretrainResult:
    """Train a GSLM on unit arrays and save the model folder (config.json, model.safetensors) and log.csv to `out`.

    The saved weights are those of the lowest perplexity on `valid`, or the last ones without valid rows. Killed at
    any time, the same call continues from the last check (every `check_every` steps), on the CPU to the same bits.

    Args:
        transformer: dimensions and dropout.
        vocab: token inventory.
        sequences: training rows, unit numbers (T,) int64.
        out: folder, made where missing.
        config: PretrainConfig, None for its defaults.
        valid: rows to check on.
        resume: continue from `out`/resume.pt if there; False starts again.
        half: store float16 weights.
    Raises: InputError for no rows, unknown units, or a checkpoint of other settings.
    """
    config = config or PretrainConfig()
    out = Path(out)
    rows = rows_of(sequences, vocab, transformer.max_positions)
    if not rows:
        raise InputError(
            "language model: expected unit sequences to train on, got none; check the unit store"
        )
    out.mkdir(parents=True, exist_ok=True)
    lengths = np.array([len(row) for row in rows])
    torch.manual_seed(config.seed)
    lm = GSLM(transformer, vocab).initialise(config.seed).to(config.device)
    run = _Run(lm.train(), config, out)
    if resume and run.checkpoint.is_file():
        run.load()
    augmentation = (
        UnitAugmentation(config.p_drop, config.p_replace) if config.p_drop or config.p_replace else None
    )
    losses: list[float] = []
    started = time.monotonic() - run.seconds
    while not run.finished():
        plan = shuffled_plan(lengths, config.batch_tokens, (config.seed, run.epoch, 0))
        while run.index < len(plan) and not run.finished():
            batch = [rows[i] for i in plan[run.index]]
            if augmentation is not None:
                rng = np.random.default_rng((config.seed, run.epoch, run.index, 1))
                batch = [augment_row(row, vocab, augmentation, rng) for row in batch]
            losses.append(run.update(padded(batch, vocab.pad).to(config.device)))
            run.index += 1
            run.seconds = time.monotonic() - started
            if run.step % config.check_every == 0 or run.finished():
                _check(run, valid, losses, half)
                losses = []
        if run.index >= len(plan):
            run.epoch, run.index = run.epoch + 1, 0
    best = GSLM.load(out, device=config.device)
    return PretrainResult(
        run.step,
        run.seconds,
        perplexity(best, valid, config.batch_tokens),
        unigram_perplexity(sequences, valid, vocab, transformer.max_positions),
    )


def _check(run: _Run, valid: Sequence[np.ndarray], losses: list[float], half: bool) -> None:
    """Measure on the valid rows, keep the weights if they are the best, log, and write the checkpoint."""
    value = perplexity(run.lm, valid, run.config.batch_tokens)
    if not value >= run.best:  # also where there is no valid row and value is NaN
        run.best = value if not math.isnan(value) else math.inf
        run.lm.save(run.out, half=half)
    train = math.exp(sum(losses) / len(losses)) if losses else math.nan
    run.log.append(
        [
            str(run.step),
            str(run.epoch),
            f"{run.lr():.3g}",
            f"{train:.4f}",
            f"{value:.4f}",
            f"{run.seconds:.1f}",
        ]
    )
    with atomic_path(run.out / "log.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([LOG_COLUMNS, *run.log])
    run.save()
