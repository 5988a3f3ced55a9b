"""The training loop on planted rows, and its continuation after kills.

Run as a program, this file trains into the folder it is given: what the test kills.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.batch import LabelledUnits
from speechprompt.checkpoint import PROMPT_FILE, STATE_FILE, begin_run, load_prompt, load_state
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.prompted import PromptConfig, PromptedLM, build_prompted
from speechprompt.run_record import RunError, RunRecord, read_record
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import train_prompt
from speechprompt.training_log import COLUMNS, read_log
from speechprompt.vocab import UnitVocab
from units.types import UnitSpec

ROOT = Path(__file__).resolve().parents[2]
N_UNITS, N_LABELS = 12, 3
# Everything that could keep something from one step to the next.
EVERYTHING = TrainConfig(
    max_epochs=10,
    patience=10,
    batch_rows=16,
    schedule="cosine",
    warmup_steps=5,
    average_epochs=3,
    unit_dropout=0.1,
    unit_replacement=0.05,
    label_smoothing=0.1,
    checkpoint_steps=4,
)


def planted_rows(n: int, seed: int) -> list[LabelledUnits]:
    """Rows whose label is the third of the inventory that most of their units come from."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        label = int(rng.integers(N_LABELS))
        typical = rng.integers(4 * label, 4 * label + 4, size=int(rng.integers(3, 15)))
        noise = rng.integers(N_UNITS, size=len(typical))
        rows.append(LabelledUnits(np.where(rng.random(len(typical)) < 0.95, typical, noise), label))
    return rows


def new_prompted(kind: str = "deep", verbalizer: str = "learnable") -> PromptedLM:
    config = TransformerConfig(n_layers=2, d_model=32, n_heads=2, d_ffn=64, max_positions=64)
    lm = GSLM(config, UnitVocab.from_n_units(N_UNITS)).initialise(seed=1)
    trained = PromptConfig(kind=kind, length=3, verbalizer=verbalizer, read="hidden")
    return build_prompted(lm, N_LABELS, trained, unit_counts=np.ones(N_UNITS, dtype=np.int64))


def begin(folder: Path, prompted: PromptedLM, config: TrainConfig) -> None:
    begin_run(
        folder,
        RunRecord(
            task="planted",
            data=None,
            labels=("a", "b", "c"),
            stack="none",
            spec=UnitSpec("none", 0, N_UNITS, 50.0, "0" * 12),
            lm_fingerprint=prompted.lm.fingerprint(),
            prompt={},
            training=config.to_dict(),
            trainable_parameters=prompted.n_trainable,
            frozen_parameters=prompted.n_frozen,
        ),
    )


def train(folder: Path, config: TrainConfig, prompted: PromptedLM | None = None) -> list[dict[str, float]]:
    prompted = prompted or new_prompted()
    begin(folder, prompted, config)
    return train_prompt(prompted, planted_rows(80, seed=0), planted_rows(40, seed=1), config, folder)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_no_waiting_for_the_disk() -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.atomic.os.fsync", lambda descriptor: None)
        yield


def test_training_learns_what_is_planted_and_leaves_a_finished_run(tmp_path: Path) -> None:
    prompted = new_prompted()
    history = train(tmp_path / "run", TrainConfig(max_epochs=12, patience=12, batch_rows=8), prompted)
    assert max(row["valid_accuracy"] for row in history) > 0.9
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    record = read_record(tmp_path / "run")
    assert record.status == "finished"
    assert record.metrics["valid"]["accuracy"] == max(row["valid_accuracy"] for row in history)
    assert without_seconds(read_log(tmp_path / "run")) == without_seconds(history)
    assert list(history[0]) == list(COLUMNS)
    assert not (tmp_path / "run" / STATE_FILE).exists()


@pytest.mark.parametrize("kind", ["deep", "input"])
def test_every_prompt_tensor_moves_and_no_language_model_bit_does(tmp_path: Path, kind: str) -> None:
    prompted = new_prompted(kind)
    before, fingerprint = prompted.trainable_state(), prompted.lm.fingerprint()
    train(tmp_path / "run", TrainConfig(max_epochs=1), prompted)
    assert prompted.lm.fingerprint() == fingerprint
    after = load_prompt(tmp_path / "run", fingerprint)
    assert after.keys() == before.keys()
    assert all((after[name] != before[name]).any() for name in before)


def test_the_best_epoch_is_kept_and_loaded(tmp_path: Path) -> None:
    prompted = new_prompted()
    history = train(
        tmp_path / "run",
        TrainConfig(
            max_epochs=8, lr=0.5, patience=8, label_smoothing=0.0, unit_dropout=0.0, mixed_precision="no"
        ),
        prompted,
    )
    best = max(history, key=lambda row: (row["valid_accuracy"], -row["valid_loss"]))
    assert best is not history[-1], "choose another rate: the last epoch must not be the best one"
    rows = planted_rows(40, seed=1)
    from speechprompt.batch import BucketedBatches
    from speechprompt.label_logits import label_logits

    batches = BucketedBatches(rows, prompted.lm.vocab, batch_tokens=4096, max_positions=64)
    logits_NC = label_logits(prompted, batches)
    accuracy = np.mean(
        [int(logit_C.argmax()) == row.label for logit_C, row in zip(logits_NC, rows, strict=True)]
    )
    assert accuracy == best["valid_accuracy"]
    kept = load_prompt(tmp_path / "run", prompted.lm.fingerprint())
    assert all(torch.equal(kept[name], value) for name, value in prompted.trainable_state().items())


def test_training_stops_when_patience_ends(tmp_path: Path) -> None:
    history = train(tmp_path / "run", TrainConfig(max_epochs=60, patience=2, lr=0.2))
    best = max(
        range(len(history)), key=lambda i: (history[i]["valid_accuracy"], -history[i]["valid_loss"], -i)
    )
    assert len(history) == best + 1 + 2


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    config = TrainConfig(max_epochs=2, batch_rows=8)
    prompted = new_prompted()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = train(tmp_path / "a", config, prompted)
    assert torch.equal(torch.rand(1), expected), "the caller's random numbers stay as they were"
    torch.manual_seed(2)
    assert without_seconds(train(tmp_path / "b", config)) == without_seconds(first)
    assert (tmp_path / "a" / PROMPT_FILE).read_bytes() == (tmp_path / "b" / PROMPT_FILE).read_bytes()
    other = train(tmp_path / "c", replace(config, seed=1))
    assert without_seconds(other) != without_seconds(first)


def test_averaging_keeps_the_mean_of_the_last_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one epoch nothing is averaged; with all of them, the kept weights are the mean of those of a plain run."""
    ends: list[list[torch.Tensor]] = []

    def save_state(folder: Path, state: dict) -> None:
        assert not state["epoch_ends"], "no second copy of the weights where nothing is averaged"
        ends.append([weight.clone() for weight in state["weights"]])

    plain = TrainConfig(max_epochs=3, batch_rows=8, schedule="constant", average_epochs=1, lr=5e-3)
    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.trainer.save_state", save_state)
        train(tmp_path / "plain", plain)
    assert len(ends) == 3
    averaged = new_prompted()
    history = train(tmp_path / "mean", replace(plain, average_epochs=3), averaged)
    best = max(range(3), key=lambda i: (history[i]["valid_accuracy"], -history[i]["valid_loss"], -i))
    for i, parameter in enumerate(averaged.trainable_parameters()):
        expected = torch.stack([end[i] for end in ends[: best + 1]]).mean(0)
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=0)


def test_token_verbalizers_train_too(tmp_path: Path) -> None:
    prompted = new_prompted(verbalizer="frequency")
    history = train(tmp_path / "run", TrainConfig(max_epochs=3, patience=3), prompted)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert load_prompt(tmp_path / "run", prompted.lm.fingerprint())["verbalizer.ids"].tolist() == [4, 5, 6]


def test_bf16_is_used_where_asked_for_and_gives_about_the_same(tmp_path: Path) -> None:
    config = TrainConfig(max_epochs=2, mixed_precision="no")
    full = train(tmp_path / "full", config)
    half = train(tmp_path / "half", replace(config, mixed_precision="bf16"))
    assert half[-1]["train_loss"] != full[-1]["train_loss"]
    assert half[-1]["train_loss"] == pytest.approx(full[-1]["train_loss"], rel=0.05)


def test_divergence_is_reported_in_one_line(tmp_path: Path) -> None:
    prompted = new_prompted()
    with torch.no_grad():
        prompted.separator.fill_(float("inf"))
    with pytest.raises(RunError, match="lower learning rate"):
        train(tmp_path / "run", TrainConfig(max_epochs=2), prompted)
    assert read_record(tmp_path / "run").status == "unfinished"


def test_changed_data_are_not_continued_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", EVERYTHING)
    with pytest.raises(RunError, match="changed"):
        train_prompt(new_prompted(), planted_rows(81, 0), planted_rows(40, 1), EVERYTHING, tmp_path / "run")


def interrupt_after(n_saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make training stop, as by Ctrl-C, in its n-th saving of the state."""
    from speechprompt import checkpoint

    counts = iter(range(n_saves))

    def save_state(folder: Path, state: dict) -> None:
        if next(counts, None) is None:
            raise KeyboardInterrupt
        checkpoint.save_state(folder, state)

    monkeypatch.setattr("speechprompt.trainer.save_state", save_state)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder, EVERYTHING)
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    assert without_seconds(read_log(one)) == without_seconds(read_log(other))
    assert (one / PROMPT_FILE).read_bytes() == (other / PROMPT_FILE).read_bytes()
    assert read_record(one).metrics == read_record(other).metrics
    assert not [path for path in one.rglob(".tmp-*") if path.is_file() and path.parent == one]


@pytest.mark.parametrize("n_saves", [0, 1, 3, 15])
def test_an_interrupted_training_continues_to_the_bit(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, n_saves: int
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(n_saves, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", EVERYTHING)
    (tmp_path / "run" / ".tmp-18cu4b62-log.csv").write_text("a kill while the log was written")
    train(tmp_path / "run", EVERYTHING)
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_training_killed_at_a_random_moment_continues_to_the_bit(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, __file__, str(folder)], env=environment)
    deadline = time.monotonic() + 120
    while _step(folder) == 0 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(random.Random().uniform(0, 1))  # differs from run to run: the claim is about any moment
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the training ended before it was killed: make it longer"
    assert read_record(folder).status == "unfinished"
    assert _step(folder) > 0
    train(folder, EVERYTHING)
    assert_same_run(folder, undisturbed)


def _step(folder: Path) -> int:
    state = load_state(folder)
    return 0 if state is None else int(state["counters"]["step"])


def test_a_full_disk_stops_training_and_room_on_it_continues_it(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))

    def fsync(descriptor: int) -> None:
        if next(calls) >= 50:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("units.atomic.os.fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path / "run", EVERYTHING)
    assert read_record(tmp_path / "run").status == "unfinished"
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    train(tmp_path / "run", EVERYTHING)
    assert_same_run(tmp_path / "run", undisturbed)


def test_no_progress_is_written_where_there_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prompted, config = new_prompted(), TrainConfig(max_epochs=1)
    begin(tmp_path / "run", prompted, config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_prompt(
            prompted, planted_rows(20, 0), planted_rows(10, 1), config, tmp_path / "run", progress=True
        )
    assert capfd.readouterr() == ("", "")


def in_slow_motion(step: Callable[..., object]) -> Callable[..., object]:
    def slowly(*arguments: object, **options: object) -> object:
        time.sleep(0.05)
        return step(*arguments, **options)

    return slowly


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.optim.Adam.step = in_slow_motion(torch.optim.Adam.step)  # so that there is time to kill it
    train(Path(sys.argv[1]), EVERYTHING)
