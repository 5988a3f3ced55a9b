"""The training of a prompt: epochs of steps, validation, early stopping, and continuing after a kill to the bit.

Nothing random outlives a step: batches are a function of (seed, epoch), dropout of (seed, step, process). A state of
weights, optimizer moments and counters is therefore all that a continued training needs.

Shapes: B rows, N labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from speechprompt.batch import BucketedBatches, LabelledUnits
from speechprompt.checkpoint import (
    RunError,
    finish_run,
    load_prompt,
    load_state,
    read_record,
    rows_fingerprint,
    save_prompt,
    save_state,
)
from speechprompt.label_logits import label_logits
from speechprompt.prompted import PromptedLM
from speechprompt.train_config import TrainConfig
from speechprompt.training_log import TrainingLog


@dataclass
class Counters:
    """Where a training stands; plain values, saved as they are.

    epoch, batch: the next one's. step: optimizer steps done. loss_sum: of the steps of this epoch.
    since_best: epochs since the best one. history: one row per epoch, as in log.csv. seconds: spent so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    since_best: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def train_prompt(
    prompted: PromptedLM,
    train_rows: Sequence[LabelledUnits],
    valid_rows: Sequence[LabelledUnits],
    config: TrainConfig,
    folder: str | Path,
    *,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Train prompt, separator and verbalizer, from the state in `folder` on where there is one.

    folder: a run begun with `checkpoint.begin_run`; at the end it holds the best epoch's prompt and is finished.
    Best is the highest validation accuracy, at equal accuracy the lowest loss. `prompted` then has these weights.

    Returns: one row per epoch (`training_log.COLUMNS`).
    Raises: RunError: training diverged, or the state belongs to other data; OSError: a full disk, say. What was saved
    before stays, and the same call continues from there.

    Source: SpeechPrompt v2 (Chang et al. 2023) for the defaults of `config`.
    """
    cuda = [prompted.lm.device] if prompted.lm.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):  # the caller's random numbers stay as they are
        return _Training(prompted, train_rows, valid_rows, config, Path(folder)).run(progress)


class _Training:
    """One training: the model, its optimizer and its counters."""

    def __init__(
        self,
        prompted: PromptedLM,
        train_rows: Sequence[LabelledUnits],
        valid_rows: Sequence[LabelledUnits],
        config: TrainConfig,
        folder: Path,
    ) -> None:
        self.prompted, self.config, self.folder = prompted, config, folder
        self.record = read_record(folder)
        # Own autocast and placement: accelerate fixes both for the life of the process, at its first use.
        self.accelerator = Accelerator(mixed_precision="no")
        if self.accelerator.num_processes > 1:
            prompted.to(self.accelerator.device)
        self.device = prompted.lm.device
        self.bf16 = config.uses_bf16(self.device)
        self.parameters = prompted.trainable_parameters()
        optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=config.betas)
        self.model: nn.Module
        self.model, self.optimizer = self.accelerator.prepare(
            prompted, optimizer, device_placement=[False, False]
        )
        vocab, budget, longest = prompted.lm.vocab, config.batch_tokens, prompted.lm.max_positions
        self.train_batches = BucketedBatches(
            train_rows,
            vocab,
            batch_tokens=budget,
            max_positions=longest,
            seed=config.seed,
            max_rows=config.batch_rows,
            augmentation=config.augmentation,
        )
        self.valid_batches = BucketedBatches(valid_rows, vocab, batch_tokens=budget, max_positions=longest)
        self.valid_labels_N = torch.tensor([row.label for row in valid_rows])
        self.rows = rows_fingerprint([*train_rows, *valid_rows])
        self.counters = Counters()
        self.epoch_ends: list[list[Tensor]] = []  # weights at the ends of the last `average_epochs` epochs
        self._restore()

    def run(self, progress: bool) -> list[dict[str, float]]:
        counters, config, main = self.counters, self.config, self.accelerator.is_main_process
        started = monotonic() - counters.seconds
        with TrainingLog(self.folder, counters.step, progress=progress, write=main) as log:
            while counters.epoch < config.max_epochs and counters.since_best < config.patience:
                self._train_epoch(log)
                counters.seconds = round(monotonic() - started, 3)
                self._validate()
                counters.epoch, counters.batch, counters.loss_sum = counters.epoch + 1, 0, 0.0
                log.epoch(counters.history)
                self._save_state()
        self.accelerator.wait_for_everyone()
        self.prompted.load_trainable_state(load_prompt(self.folder, self.record.lm_fingerprint))
        self.prompted.eval()
        if main:
            finish_run(self.folder, {"accuracy": counters.best_accuracy, "loss": counters.best_loss})
        self.accelerator.wait_for_everyone()
        return counters.history

    def _train_epoch(self, log: TrainingLog) -> None:
        counters, config = self.counters, self.config
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        n_steps = self.train_batches.n_batches(counters.epoch) // world  # every process takes equally many
        if n_steps == 0:
            raise RunError(
                f"{world} processes: expected a batch for each, got fewer; use fewer or smaller batches"
            )
        best = f", best {100 * counters.best_accuracy:.1f}%" if counters.history else ""
        title = f"epoch {counters.epoch + 1} of at most {config.max_epochs}{best}"
        self.model.train()
        batches = islice(self.train_batches.epoch(counters.epoch, counters.batch * world), rank, None, world)
        for batch in islice(log.steps(counters.batch, n_steps, title, batches), n_steps - counters.batch):
            progress = (counters.epoch + counters.batch / n_steps) / config.max_epochs
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate(counters.step, progress)
            _seed_step(self.device, (config.seed, counters.step, rank))
            batch = batch.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                logits_BN = self.model(batch)
            loss = F.cross_entropy(logits_BN.float(), batch.labels_B, label_smoothing=config.label_smoothing)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.parameters, config.clip)
            self.optimizer.step()
            counters.loss_sum += loss.item()
            if not np.isfinite(counters.loss_sum):
                raise RunError(
                    f"{self.folder}: expected a finite loss, got {loss.item()} in epoch {counters.epoch + 1}; "
                    "use a lower learning rate"
                )
            counters.batch, counters.step = counters.batch + 1, counters.step + 1
            if config.checkpoint_steps and counters.step % config.checkpoint_steps == 0:
                self._save_state()

    @torch.no_grad()
    def _validate(self) -> None:
        """Score the (averaged) weights on the validation rows; keep them if they are the best so far."""
        counters, config = self.counters, self.config
        last = [parameter.detach().clone() for parameter in self.parameters]
        self.epoch_ends = [*self.epoch_ends, last][-config.average_epochs :]
        for parameter, *ends in zip(self.parameters, *self.epoch_ends, strict=True):
            parameter.copy_(torch.stack(ends).mean(0))
        logits_NC = label_logits(
            self.prompted, self.valid_batches, bf16=self.bf16, accelerator=self.accelerator
        )
        loss = F.cross_entropy(logits_NC, self.valid_labels_N).item()
        accuracy = logits_NC.argmax(1).eq(self.valid_labels_N).double().mean().item()
        if (accuracy, -loss) > (counters.best_accuracy, -counters.best_loss):
            counters.best_accuracy, counters.best_loss, counters.since_best = accuracy, loss, 0
            if self.accelerator.is_main_process:
                save_prompt(self.folder, self.prompted.trainable_state(), self.record)
        else:
            counters.since_best += 1
        for parameter, value in zip(self.parameters, last, strict=True):
            parameter.copy_(value)
        counters.history.append(
            {
                "epoch": counters.epoch + 1,
                "step": counters.step,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "train_loss": counters.loss_sum / counters.batch,
                "valid_loss": loss,
                "valid_accuracy": accuracy,
                "seconds": counters.seconds,
            }
        )

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            state: dict[str, Any] = {
                "rows": self.rows,
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
        if state["rows"] != self.rows:
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
