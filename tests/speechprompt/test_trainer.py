"""The loop trains what is no prompt at all: a linear map with its own loss, metric and best epoch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechprompt.checkpoint import PROMPT_FILE, begin_run, finish_run, load_prompt
from speechprompt.objective import Objective, Validation
from speechprompt.run_record import RECORD_FILE, RunExistsError, RunRecord, read_record
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from speechprompt.training_log import LOG_FILE, TENSORBOARD_FOLDER, read_log
from units.types import UnitSpec

CONFIG = TrainConfig(lr=0.2, max_epochs=12, patience=3, average_epochs=2, checkpoint_steps=3)


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.atomic.os.fsync", lambda descriptor: None)
        yield


class Points:
    """A batch: x (B, 4), y (B, 1)."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def to(self, device: torch.device | str) -> Points:
        return Points(self.x.to(device), self.y.to(device))


class Plane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.dropout = nn.Dropout(0.1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: Points) -> Tensor:
        return self.linear(self.dropout(batch.x)) * self.frozen


class Regression(Objective):
    """Squared error; the best epoch is the one of the smallest largest error."""

    def __init__(self) -> None:
        self.module = Plane()
        self.batches = self
        self.data = "points"
        self.truth = torch.tensor([[1.0, -2.0, 0.5, 0.0]])

    def n_batches(self, epoch: int) -> int:
        return 5

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Points]:
        for number in range(start, 5):
            rng = torch.Generator().manual_seed(100 * epoch + number)
            x = torch.randn(16, 4, generator=rng)
            yield Points(x, x @ self.truth.T)

    def loss(self, output: Tensor, batch: Points) -> Tensor:
        return (output - batch.y).square().mean()

    def validate(self, *, accelerator: Any) -> Validation:
        assert not torch.is_grad_enabled()
        self.module.eval()
        batch = next(self.epoch(1000))
        error = (self.module(batch) - batch.y).abs()
        return Validation(
            {"loss": error.square().mean().item(), "largest": error.max().item()}, (-error.max().item(),)
        )

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.module.linear.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.module.linear.load_state_dict(dict(state))


RECORD = RunRecord(
    task="points",
    data=None,
    labels=(),
    stack="none",
    spec=UnitSpec("none", 0, 2, 50.0, "0" * 12),
    lm_fingerprint="none",
    prompt={},
    training=CONFIG.to_dict(),
    trainable_parameters=5,
    frozen_parameters=1,
)


def train(folder: Path, objective: Objective | None = None) -> list[dict[str, float]]:
    begin_run(folder, RECORD)
    return train_module(objective or Regression(), CONFIG, folder)


def test_another_objective_learns_and_decides_its_own_best_epoch(tmp_path: Path) -> None:
    objective = Regression()
    history = train(tmp_path / "run", objective)
    best = min(history, key=lambda row: row["valid_largest"])
    assert best["valid_largest"] < 1 < history[0]["valid_largest"]
    assert read_record(tmp_path / "run").metrics["valid"] == {
        "loss": best["valid_loss"],
        "largest": best["valid_largest"],
    }
    assert read_log(tmp_path / "run") == history
    assert not objective.module.training
    assert objective.module.frozen.item() == 1.0
    kept = load_prompt(tmp_path / "run", "none")
    assert torch.equal(kept["weight"], objective.module.linear.weight)
    with torch.no_grad():
        check = objective.validate(accelerator=None)
    assert check.metrics["largest"] == best["valid_largest"]


def test_few_batches_are_gone_through_more_often_where_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechprompt.train_config.LEAST_STEPS", 41)
    config = replace(CONFIG, max_epochs=None, patience=100)
    assert [config.n_epochs(n) for n in (1, 5, 6, 7, 1000)] == [41, 9, 7, 6, 6]
    assert replace(config, max_epochs=2).n_epochs(1) == 2
    begin_run(tmp_path / "run", replace(RECORD, training=config.to_dict()))
    history = train_module(Regression(), config, tmp_path / "run")
    assert len(history) == 9 and history[-1]["learning_rate"] < 0.01 * config.lr


def test_its_columns_are_told_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / TENSORBOARD_FOLDER))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"learning_rate", "loss/train", "loss/valid", "largest/valid"}
    logged = [event.value for event in events.Scalars("largest/valid")]
    np.testing.assert_allclose(logged, [row["valid_largest"] for row in history], rtol=1e-6)


def test_it_continues_to_the_bit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from speechprompt import checkpoint

    counts = iter(range(4))

    def interrupting(folder: Path, state: dict) -> None:
        if next(counts, None) is None:
            raise KeyboardInterrupt
        checkpoint.save_state(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.trainer.save_state", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "a")
    continued, whole = train(tmp_path / "a"), train(tmp_path / "b")
    for one, other in zip(continued, whole, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert (tmp_path / "a" / PROMPT_FILE).read_bytes() == (tmp_path / "b" / PROMPT_FILE).read_bytes()


HOLDER = """
import sys
from speechprompt.run_lock import training_lock
with training_lock(sys.argv[1]):
    print("trains", flush=True)
    sys.stdin.read()
"""


def test_two_trainings_at_once_are_refused_until_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin_run(folder, RECORD)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"trains\n"
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(RunExistsError, match=rf"^{re.escape(str(folder))}: .* in training; wait"):
            train(folder)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    finally:
        holder.kill()
        holder.communicate()
    train(folder)
    assert {path.name for path in folder.iterdir()} == {
        RECORD_FILE,
        PROMPT_FILE,
        LOG_FILE,
        TENSORBOARD_FOLDER,
    }


def test_a_run_that_another_training_has_just_finished_is_not_trained_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin_run(folder, RECORD)
    finish_run(folder, {"loss": 0.5})
    with pytest.raises(RunExistsError, match="got a finished one"):
        train_module(Regression(), CONFIG, folder)
    assert [path.name for path in folder.iterdir()] == [RECORD_FILE]
