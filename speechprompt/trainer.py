"""The training of any module with an objective: epochs of steps, validation, early stopping, continuing after a kill.

Nothing random outlives a step: batches are a function of (seed, epoch), dropout of (seed, step, process). A state of
weights, optimizer moments and counters is therefore all that a continued training needs to repeat every bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from speechprompt.checkpoint import finish_run, load_prompt, load_state, save_prompt, save_state
from speechprompt.objective import Objective
from speechprompt.run_lock import training_lock
from speechprompt.run_record import RunError, read_record
from speechprompt.steered import rounded_lm, steering
from speechprompt.train_config import TrainConfig
from speechprompt.training_log import TrainingLog


@dataclass
class Counters:
    """Where a training stands; plain values, saved as they are.

    epoch, batch: the next one's. step: optimizer steps done. loss_sum: of the steps of this epoch.
    since_best: epochs since the best one. best_rank, best_metrics: Validation's of that one, empty before the first.
    history: one row per epoch, as in log.csv. seconds: spent so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    since_best: int = 0
    best_rank: list[float] = field(default_factory=list)
    best_metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def train_module(
    objective: Objective, config: TrainConfig, folder: str | Path, *, progress: bool = False
) -> list[dict[str, float]]:
    """Train the objective's module, from the state in `folder` on where there is one.

    folder: a run begun with `checkpoint.begin_run`; at the end it holds the best epoch's weights and is finished.
    The module then has these weights and is in evaluation mode.

    Returns: one row per epoch: epoch, step, learning_rate, train_loss, `valid_<metric>` ..., seconds.
    Raises: RunError: training diverged, or the state belongs to other data; RunExistsError: another process trains this
    run; OSError: a full disk, say. What was saved before stays, and the same call continues from there.
    """
    cuda = [objective.device] if objective.device.type == "cuda" else []
    # Own autocast and placement: accelerate fixes both for the life of the process, at its first use.
    accelerator = Accelerator(mixed_precision="no")
    alone: AbstractContextManager[None] = (
        training_lock(folder) if accelerator.is_main_process else nullcontext()
    )
    with alone, torch.random.fork_rng(cuda):  # the caller's random numbers stay as they are
        return _Training(objective, config, Path(folder), accelerator).run(progress)


class _Training:
    """One training: the module, its optimizer and its counters."""

    def __init__(
        self, objective: Objective, config: TrainConfig, folder: Path, accelerator: Accelerator
    ) -> None:
        self.objective, self.config, self.folder, self.accelerator = objective, config, folder, accelerator
        self.record = read_record(folder)
        if self.accelerator.num_processes > 1:
            objective.module.to(self.accelerator.device)
        self.device = objective.device
        self.bf16 = config.uses_bf16(self.device)
        self.parameters = objective.parameters()
        optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=config.betas)
        self.model: nn.Module
        self.model, self.optimizer = self.accelerator.prepare(
            objective.module, optimizer, device_placement=[False, False]
        )
        self.n_epochs = config.n_epochs(objective.batches.n_batches(0))
        self.counters = Counters()
        self.epoch_ends: list[
            list[Tensor]
        ] = []  # weights at the ends of the last epochs, where these are averaged
        self._restore()
        # Rounded once, instead of in every step; validation judges by the exact weights.
        self.rounded = rounded_lm(objective.module, self.record.lm_fingerprint) if self.bf16 else None

    def run(self, progress: bool) -> list[dict[str, float]]:
        counters, config, main = self.counters, self.config, self.accelerator.is_main_process
        started = monotonic() - counters.seconds
        with TrainingLog(self.folder, counters.step, progress=progress, write=main) as log:
            while counters.epoch < self.n_epochs and counters.since_best < config.patience:
                with steering(self.objective.module, self.rounded):
                    self._train_epoch(log)
                counters.seconds = round(monotonic() - started, 3)
                with self._averaged():
                    self._validate()
                counters.epoch, counters.batch, counters.loss_sum = counters.epoch + 1, 0, 0.0
                log.epoch(counters.history)
                self._save_state()
        self.accelerator.wait_for_everyone()
        self.objective.load_state(load_prompt(self.folder, self.record.lm_fingerprint))
        self.objective.module.eval()
        if main:
            finish_run(self.folder, counters.best_metrics)
        self.accelerator.wait_for_everyone()
        return counters.history

    def _train_epoch(self, log: TrainingLog) -> None:
        counters, config, batches = self.counters, self.config, self.objective.batches
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        n_steps = batches.n_batches(counters.epoch) // world  # every process takes equally many
        if n_steps == 0:
            raise RunError(
                f"{world} processes: expected a batch for each, got fewer; use fewer or smaller batches"
            )
        best = "".join(f", best {name} {value:.4g}" for name, value in counters.best_metrics.items())
        title = f"epoch {counters.epoch + 1} of at most {self.n_epochs}{best}"
        self.model.train()
        mine = islice(batches.epoch(counters.epoch, counters.batch * world), rank, None, world)
        for batch in islice(log.steps(counters.batch, n_steps, title, mine), n_steps - counters.batch):
            progress = (counters.epoch + counters.batch / n_steps) / self.n_epochs
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate(counters.step, progress)
            _seed_step(self.device, (config.seed, counters.step, rank))
            self._step(batch.to(self.device))
            counters.batch, counters.step = counters.batch + 1, counters.step + 1
            if config.checkpoint_steps and counters.step % config.checkpoint_steps == 0:
                self._save_state()

    def _step(self, batch: Any) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.model(batch)
        loss = self.objective.loss(output, batch)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()
        self.counters.loss_sum += loss.item()
        if not np.isfinite(self.counters.loss_sum):
            raise RunError(
                f"{self.folder}: expected a finite loss, got {loss.item()} in epoch {self.counters.epoch + 1}; "
                "use a lower learning rate"
            )

    @contextmanager
    @torch.no_grad()
    def _averaged(self) -> Iterator[None]:
        """Put the mean of the last epochs' weights in place for a while; of one epoch nothing is copied."""
        if self.config.average_epochs == 1:
            yield
            return
        last = [parameter.detach().clone() for parameter in self.parameters]
        self.epoch_ends = [*self.epoch_ends, last][-self.config.average_epochs :]
        for parameter, *ends in zip(self.parameters, *self.epoch_ends, strict=True):
            parameter.copy_(torch.stack(ends).mean(0))
        yield
        for parameter, value in zip(self.parameters, last, strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def _validate(self) -> None:
        """Judge the weights on the validation rows; keep them if they are the best so far."""
        counters = self.counters
        validation = self.objective.validate(accelerator=self.accelerator)
        if not counters.best_rank or validation.rank > tuple(counters.best_rank):
            counters.best_rank, counters.best_metrics = list(validation.rank), dict(validation.metrics)
            counters.since_best = 0
            if self.accelerator.is_main_process:
                save_prompt(self.folder, self.objective.state(), self.record)
        else:
            counters.since_best += 1
        counters.history.append(
            {
                "epoch": counters.epoch + 1,
                "step": counters.step,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "train_loss": counters.loss_sum / counters.batch,
                **{f"valid_{name}": value for name, value in validation.metrics.items()},
                "seconds": counters.seconds,
            }
        )

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            state: dict[str, Any] = {
                "rows": self.objective.data,
                "bf16": self.bf16,
                "counters": asdict(self.counters),
                "weights": [parameter.detach() for parameter in self.parameters],
                "epoch_ends": self.epoch_ends,
                "optimizer": self.optimizer.state_dict(),
            }
            save_state(self.folder, state)

    @torch.no_grad()
    def _restore(self) -> None:
        state = load_state(self.folder)
        if state is None:
            return
        if state["rows"] != self.objective.data:
            raise RunError(
                f"{self.folder}: expected the recordings and labels that this run began with, got changed ones; "
                "choose another --out"
            )
        self.bf16 = state["bf16"]
        self.counters = Counters(**state["counters"])
        for parameter, value in zip(self.parameters, state["weights"], strict=True):
            parameter.copy_(value)
        self.epoch_ends = [[value.to(self.device) for value in end] for end in state["epoch_ends"]]
        self.optimizer.load_state_dict(state["optimizer"])


def _seed_step(device: torch.device, place: tuple[int, int, int]) -> None:
    """Seed the dropout of one step by (seed, step, process)."""
    seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
    # On the CPU only its own generator: torch.manual_seed would queue a call, with its trace, for a GPU never used.
    torch.default_generator.manual_seed(seed) if device.type == "cpu" else torch.manual_seed(seed)
