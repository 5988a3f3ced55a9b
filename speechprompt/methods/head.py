"""A linear head on the encoder's frozen features, without units and without a language model.

What the papers call a downstream model (FT-DM), as SUPERB has it for classification: a trained weighting of the
encoder's layers, the mean over time, a linear map to labels. Its layers end with the one that units are made of.

Source: Yang et al. 2021, "SUPERB: Speech processing Universal PERformance Benchmark".

Shapes: B rows, K layers, D features, N labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.methods.base import Job, MethodError, Outcome
from speechprompt.methods.features import mean_features
from speechprompt.methods.settings import by_validation, take
from speechprompt.methods.unit_classifier import train_or_read
from speechprompt.objective import Objective, Validation
from speechprompt.run_record import RunRecord
from speechprompt.train_config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

RATES = (1e-3, 1e-2)
RECIPE = TrainConfig(
    lr=RATES[0],
    batch_rows=32,
    max_epochs=60,
    patience=10,
    average_epochs=1,
    unit_dropout=0.0,
    mixed_precision="no",
)


@dataclass(frozen=True)
class HeadSettings:
    """Beside these: the fields of TrainConfig (RECIPE by default), as far as they are not about units.

    layers: "sum", a trained weighting of all, or "last", the one that units are made of. dropout: on features.
    """

    layers: str = "sum"
    dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of mean features (B, K, D) float32 with label indices (B,) int64; all of a split, or a batch."""

    x_BKD: Tensor
    labels_B: Tensor

    def to(self, device: torch.device | str) -> Features:
        """The same on another device."""
        return Features(self.x_BKD.to(device), self.labels_B.to(device))


class Head(nn.Module):
    """Standardised features, weighted over layers, to label logits (B, N)."""

    mean_KD: Tensor
    scale_KD: Tensor

    def __init__(self, train_BKD: Tensor, n_labels: int, dropout: float) -> None:
        super().__init__()
        n_layers, n_features = train_BKD.shape[1:]
        self.register_buffer("mean_KD", train_BKD.mean(0))
        self.register_buffer("scale_KD", train_BKD.std(0, correction=0).clamp(min=1e-6))
        self.layer_weights = nn.Parameter(torch.zeros(n_layers), requires_grad=n_layers > 1)
        self.linear = nn.Linear(n_features, n_labels)
        nn.init.zeros_(self.linear.weight)  # a convex problem: it may begin anywhere
        nn.init.zeros_(self.linear.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Features) -> Tensor:
        """Label logits (B, N)."""
        x_BKD = (batch.x_BKD - self.mean_KD) / self.scale_KD
        x_BD = torch.einsum("bkd,k->bd", x_BKD, self.layer_weights.softmax(0))
        logits_BN: Tensor = self.linear(self.dropout(x_BD))
        return logits_BN


class FeatureBatches:
    """Shuffled batches of features: a function of (seed, epoch)."""

    def __init__(self, rows: Features, n_rows: int, seed: int) -> None:
        self.rows, self.n_rows, self.seed = rows, n_rows, seed

    def n_batches(self, epoch: int) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows.labels_B) // self.n_rows)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Features]:
        """Batches of one epoch from batch `start` on."""
        order = torch.from_numpy(
            np.random.default_rng((self.seed, epoch)).permutation(len(self.rows.labels_B))
        )
        for index in order.split(self.n_rows)[start:]:
            yield Features(self.rows.x_BKD[index], self.rows.labels_B[index])


class HeadObjective(Objective):
    """Cross entropy of labels; the best epoch by accuracy, then loss, of the validation rows."""

    module: Head

    def __init__(self, head: Head, train: Features, valid: Features, config: TrainConfig) -> None:
        self.module, self.valid = head, valid
        self.batches = FeatureBatches(train, config.batch_rows, config.seed)
        self.label_smoothing = config.label_smoothing
        digest = hashlib.sha256()
        for rows in (train, valid):
            digest.update(rows.x_BKD.numpy().tobytes() + rows.labels_B.numpy().tobytes())
        self.data = digest.hexdigest()

    def loss(self, output: Tensor, batch: Features) -> Tensor:
        """Cross entropy, smoothed as the settings say."""
        return F.cross_entropy(output, batch.labels_B, label_smoothing=self.label_smoothing)

    def validate(self, *, accelerator: Accelerator) -> Validation:
        """Loss and accuracy of the validation rows."""
        scores_BN = log_probabilities(self.module, self.valid.x_BKD)
        loss = F.nll_loss(scores_BN, self.valid.labels_B).item()
        accuracy = scores_BN.argmax(1).eq(self.valid.labels_B).double().mean().item()
        return Validation({"loss": loss, "accuracy": accuracy}, (accuracy, -loss))

    def state(self) -> dict[str, Tensor]:
        """Weights, and the statistics that features are standardised with."""
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Read what `state` gave."""
        self.module.load_state_dict(dict(state))


@torch.no_grad()
def log_probabilities(head: Head, x_BKD: Tensor) -> Tensor:
    """Scores (B, N) float32 on the CPU, in evaluation mode."""
    head.eval()
    device = head.linear.weight.device
    scores_BN: Tensor = head(Features(x_BKD, x_BKD).to(device)).log_softmax(1).cpu()
    return scores_BN


def head(job: Job) -> Outcome:
    """Encode, pool and cache the recordings, train the head, and label every split that is not trained on."""
    job.require_classification("head")

    def run(job: Job) -> Outcome:
        settings, config = take(job, "head", HeadSettings(), RECIPE)
        train = _rows(job, "train", settings, config.speed_perturbation or (1.0,))
        valid = _rows(job, "valid", settings)
        module = Head(train.x_BKD, len(job.task.labels), settings.dropout).to(job.stack.device)
        objective = HeadObjective(module, train, valid, config)
        n_trained = sum(parameter.numel() for parameter in objective.parameters())
        record = RunRecord(
            task=job.task.name,
            data=None if job.task.root is None else str(job.task.root.resolve()),
            labels=job.task.labels,
            stack=job.stack.source,
            spec=job.stack.spec,
            lm_fingerprint="none",
            prompt=asdict(settings),
            training=config.to_dict(),
            trainable_parameters=n_trained,
            frozen_parameters=0,
            method="head",
        )
        history = train_or_read(job, objective, config, record)
        scores = {
            split: log_probabilities(module, _rows(job, split, settings).x_BKD).numpy()
            for split in job.judged_splits
        }
        return Outcome.of_scores(
            job, scores, trainable_parameters=n_trained, seconds=history[-1]["seconds"], history=history
        )

    return by_validation(job, RATES, run)


def _rows(job: Job, split: str, settings: HeadSettings, speeds: tuple[float, ...] = (1.0,)) -> Features:
    """Features of a split at all speeds, with labels."""
    if settings.layers not in ("sum", "last"):
        raise MethodError(f"layers: expected sum or last, got {settings.layers!r}; correct the setting")
    utterances = job.task.utterances(split)
    labels_B = torch.tensor([job.task.labels.index(utterance.target) for utterance in utterances])
    parts = [mean_features(utterances, job.stack, speed=speed, progress=job.progress) for speed in speeds]
    x_BKD = torch.cat(parts)
    return Features(x_BKD if settings.layers == "sum" else x_BKD[:, -1:], labels_B.repeat(len(speeds)))
