"""One training's model, optimizer and counters, and the state that it continues from after a kill."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from speechprompt.pretraining.config import PretrainConfig
from speechprompt.pretraining.objective import Objective
from speechprompt.pretraining.optimizer import LMOptimizer
from units.atomic import atomic_path
from units.errors import InputError
from units.training_state import read_training_state

LOG_FILE, STATE_FILE = "log.csv", "resume.pt"


class PretrainRun:
    """A model in training.

    Args:
        objective: what it is trained on.
        model: of new weights, on its device; put into training mode.
        config: how.
        out: folder of the model, the log and the state.
    """

    def __init__(
        self, objective: Objective[Any, Any], model: torch.nn.Module, config: PretrainConfig, out: Path
    ) -> None:
        self.objective, self.model, self.config, self.out = objective, model.train(), config, out
        self.optimizer = LMOptimizer(self.model, config)
        self.step, self.epoch, self.index = 0, 0, 0  # index: batches of the epoch done
        self.seconds, self.best = 0.0, math.inf
        self.log: list[list[str]] = []  # in the state as well, so that a resumed log has no line twice

    @property
    def state_file(self) -> Path:
        """What a killed run continues from."""
        return self.out / STATE_FILE

    @property
    def columns(self) -> list[str]:
        """Names of the log's columns."""
        objective = self.objective
        return ["step", "epoch", "lr", objective.train_column, *objective.valid_columns, "seconds"]

    @property
    def checks(self) -> list[tuple[int, float]]:
        """Step and deciding measure of each check so far."""
        return [(int(row[0]), float(row[4])) for row in self.log]

    def lr(self) -> float:
        """Linear warm-up, then half a cosine over steps or time, whichever is further."""
        config = self.config
        progress = self.step / config.steps
        if config.max_seconds:
            progress = max(progress, self.seconds / config.max_seconds)
        warmup = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def finished(self) -> bool:
        """Whether all steps are done, or the time is up."""
        limit = self.config.max_seconds
        return self.step >= self.config.steps or (limit is not None and self.seconds >= limit)

    def update(self, batch: Any) -> float:
        """One optimizer step; returns the loss in nats per token."""
        config, device_type = self.config, torch.device(self.config.device).type
        with torch.autocast(device_type, torch.bfloat16, enabled=config.bf16):
            loss = self.objective.loss(self.model, batch)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step(self.lr())
        self.step += 1
        return float(loss.detach())

    def check(self, losses: list[float], *, half: bool) -> dict[str, float]:
        """Measure on the valid rows, keep the weights if they are the best, log, and write the state."""
        measures = self.objective.measure(self.model)
        value = measures[self.objective.valid_columns[0]]
        if not value >= self.best:  # also where there is no valid row and value is NaN
            self.best = value if not math.isnan(value) else math.inf
            self.objective.save(self.model, self.out, half=half)
        train = self.objective.train_value(sum(losses) / len(losses)) if losses else math.nan
        measured = [f"{measures[name]:.4f}" for name in self.objective.valid_columns]
        counted = [str(self.step), str(self.epoch), f"{self.lr():.3g}", f"{train:.4f}"]
        self.log.append([*counted, *measured, f"{self.seconds:.1f}"])
        with atomic_path(self.out / LOG_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.log])
        self.save()
        return measures

    def save(self) -> None:
        """Write the state."""
        state = {
            "lm": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": [self.step, self.epoch, self.index],
            "floats": [self.seconds, self.best],
            "log": self.log,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "config": self.config.comparable(),
            "objective": self.objective.settings,
        }
        with atomic_path(self.state_file) as file:
            torch.save(state, file)

    def load(self) -> None:
        """Continue from the state. Raises: InputError for one of other settings, rows or sizes."""
        state = read_training_state(self.state_file, "use another folder")
        # What an older state does not name was not there; how it names the optimizer's state is known no more.
        settings = asdict(PretrainConfig()) | {"optimizer": None} | state["config"]
        # A state written before there were other families than GSLM does not say what it was trained on.
        objective = state.get("objective", self.objective.settings)
        if (
            any(settings[name] != value for name, value in self.config.comparable().items())
            or objective != self.objective.settings
        ):
            raise InputError(
                f"{self.state_file}: expected the settings and rows it was written with; use another folder"
            )
        try:
            self.model.load_state_dict(state["lm"])
        except RuntimeError as error:
            raise InputError(
                f"{self.state_file}: expected a model of this size; use another folder"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.index = state["counts"]
        self.seconds, self.best = state["floats"]
        self.log = state["log"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
