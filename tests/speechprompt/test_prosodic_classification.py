"""Recordings labelled by a prompt on pGSLM: pitch is measured once, read everywhere, and asked for where it lacks."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.bench.random_runs import write_random_run
from speechprompt.checkpoint import load_prompt
from speechprompt.evaluation import evaluate, predict, probabilities
from speechprompt.lm.pgslm import PGSLM
from speechprompt.methods import Job, run_method
from speechprompt.perplexity import perplexity
from speechprompt.prompt_config import PromptConfig
from speechprompt.read_rows import unit_numbers
from speechprompt.run import load_run
from speechprompt.serve.limits import Limits
from speechprompt.serve.runs import Runs
from speechprompt.serve.service import Service
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import labelled_units, quantize_utterances, rows_as_read
from speechprompt.train_config import TrainConfig
from speechprompt.training import train
from speechprompt.views import AS_IS, View, offset_views, view_quantizer
from tasks import get_task
from tasks.base import Task, Utterance
from tests.speechprompt.serving import served
from units.audio import read_audio, write_audio
from units.errors import InputError
from units.pitch import measure_f0
from units.types import Wave

RATE = 16_000
QUICK = {
    "max_epochs": 2,
    "lr": 0.02,
    "speed_perturbation": (),
    "average_epochs": 1,
    "n_offsets": 1,
    "mixed_precision": "no",
}


def glide(start_hz: float, end_hz: float, seconds: float = 0.6) -> Wave:
    """A voice-like tone of eight harmonics."""
    frequency_N = np.geomspace(start_hz, end_hz, round(seconds * RATE))
    phase_N = 2 * np.pi * np.cumsum(frequency_N) / RATE
    return sum(0.2 / k * np.sin(k * phase_N) for k in range(1, 9)).astype(np.float32)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def glides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a task: does the pitch rise or fall?"""
    folder, rng = tmp_path_factory.mktemp("glides"), np.random.default_rng(0)
    for split, n in (("train", 16), ("valid", 6), ("test", 6)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(["path", "label"])
            for i in range(n):
                low = rng.uniform(90, 130)
                ends = (low, 1.7 * low) if i % 2 else (1.7 * low, low)
                write_audio(folder / f"{split}{i}.wav", glide(*ends))
                table.writerow((f"{split}{i}.wav", "rises" if i % 2 else "falls"))
    return folder


@pytest.fixture(scope="module")
def task(glides: Path) -> Task:
    return get_task("csv_classification", glides)


@pytest.fixture(scope="module")
def stack(prosodic_stack: Path) -> Stack:
    return load_stack(prosodic_stack)


@pytest.fixture(scope="module")
def clips(task: Task) -> list[Path]:
    return [u.path for u in task.utterances("test") if u.path is not None]


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make any further use of an encoder fail."""

    def forbid() -> None:
        def load(*of: object) -> None:
            raise AssertionError("an encoder was loaded")

        monkeypatch.setattr("speechprompt.stack.load_encoder", load)

    return forbid


def test_rows_are_the_units_durations_and_pitch_of_the_recordings(task: Task, stack: Stack) -> None:
    assert stack.reads_prosody
    utterances = task.utterances("train")
    rows = rows_as_read(utterances, stack)
    for utterance, row in zip(utterances, rows, strict=True):
        assert utterance.path is not None
        [units] = stack.quantize(utterance.path, f0=True)
        np.testing.assert_array_equal(unit_numbers(row), units.units)
        assert units.durations is not None
        assert row[:, 1].tolist() == units.durations.tolist()
        np.testing.assert_array_equal(row, stack.as_read(units))
        half = len(row) // 2
        rises = row[half:, 2].mean() > row[:half, 2].mean()
        assert rises == (utterance.target == "rises")
    for row, alone in zip(rows, quantize_utterances(utterances, stack), strict=True):
        assert unit_numbers(row).tolist() == alone.tolist()
    [in_order] = stack.units_in_views([u.path for u in utterances if u.path is not None], [AS_IS])
    for row, heard in zip(rows, in_order, strict=True):
        np.testing.assert_array_equal(heard, row)


def test_the_second_time_neither_units_nor_pitch_are_measured(
    task: Task, prosodic_stack: Path, no_encoder: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = (AS_IS, View(1.25), View(offset=0.5))
    first = labelled_units(task, "valid", load_stack(prosodic_stack), views=views)
    no_encoder()
    monkeypatch.setattr("units.pitch.measure_f0", None)
    again = labelled_units(task, "valid", load_stack(prosodic_stack), views=views)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.units, other.units, strict=True)
    with pytest.raises(AssertionError, match="encoder"):  # units alone are another entry
        quantize_utterances(task.utterances("valid"), load_stack(prosodic_stack), view=View(1.12))


def test_pitch_is_that_of_the_wave_as_the_view_hears_it(stack: Stack) -> None:
    wave = glide(120, 120)
    for view, expected in ((AS_IS, 120), (View(1.25), 150), (View(0.8, 0.5), 96)):
        quantizer = view_quantizer(stack.quantizer, view, f0=True)
        [sequence] = quantizer([wave])
        assert sequence.f0_hz is not None
        assert np.median(sequence.f0_hz[sequence.f0_hz > 0]) == pytest.approx(expected, rel=0.02)
        assert view_quantizer(stack.quantizer, view)([wave])[0].f0_hz is None
    late = np.pad(wave, (160, 0))  # half a frame
    [sequence] = view_quantizer(stack.quantizer, View(offset=0.5), f0=True)([wave])
    np.testing.assert_array_equal(sequence.f0_hz, measure_f0(late, RATE, 50.0, sequence.n_frames))


def test_a_prompt_is_trained_measured_and_asked_with_the_pitch(
    task: Task, stack: Stack, glides: Path, clips: list[Path], tmp_path: Path
) -> None:
    config = TrainConfig(max_epochs=10, speed_perturbation=(), average_epochs=1, mixed_precision="no")
    options = PromptConfig(length=3, n_offsets=2)
    run = train(
        "csv_classification", stack, tmp_path / "run", data=glides, config=config, prompt_config=options
    )
    assert run.metrics["valid"]["accuracy"] == 1.0
    assert evaluate(run, "test")["accuracy"] == 1.0
    again = load_run(tmp_path / "run")
    said = predict(again, clips)
    assert [p.label for p in said] == [u.target for u in task.utterances("test")]
    # What `predict` says is said of rows with pitch, and would be another thing without.
    views = offset_views(2)
    whole = probabilities(again, again.stack.units_in_views(clips, views)).max(1).values.tolist()
    assert [p.probability for p in said] == pytest.approx(whole)
    alone = probabilities(again, again.stack.units_in_views(clips, views, prosody=False)).max(1).values
    assert not np.allclose(whole, alone.tolist(), atol=1e-3)
    assert unit_numbers(again.stack.units_in_views(clips, [AS_IS])[0][0]).tolist() == (
        again.stack.units_in_views(clips, [AS_IS], prosody=False)[0][0].tolist()
    )


@pytest.mark.parametrize(
    "method", ["prompt", "input-prompt", "lora", "finetune", "head", "ngram", "prompt-ngram", "majority"]
)
def test_every_method_works_beside_pitch(method: str, task: Task, stack: Stack, tmp_path: Path) -> None:
    settings = {} if method in ("ngram", "majority") else QUICK
    if method == "head":
        settings = {name: value for name, value in QUICK.items() if name != "n_offsets"}
    before = {name: tensor.clone() for name, tensor in stack.lm.state_dict().items()}
    outcome = run_method(method, Job(task, stack, tmp_path / "cell", settings=settings))
    assert set(outcome.predictions["test"]) <= set(task.labels) and len(outcome.predictions["test"]) == 6
    assert all(torch.equal(tensor, before[name]) for name, tensor in stack.lm.state_dict().items())
    if method == "finetune":  # the embeddings of every class that was read have moved
        tuned = load_prompt(tmp_path / "cell", stack.lm_fingerprint)
        for name in ("embed_f0.weight", "embed_duration.weight"):
            moved = tuned[f"lm.{name}"].ne(before[name]).any(1)
            assert 4 <= int(moved.sum()) <= len(moved)


def test_units_without_pitch_are_refused_for_labels_and_enough_for_the_rest(
    stack: Stack, task: Task, tmp_path: Path
) -> None:
    rows = [Utterance(f"u{i}", "rises" if i % 2 else "falls", units=np.array([i, 3, 5])) for i in range(8)]
    bare = Task(
        "bare", "classification", task.labels, {"train": rows, "valid": rows, "test": rows}, ("accuracy",)
    )
    with pytest.raises(InputError, match="utterance u0: expected a recording.*got units alone"):
        train(bare, stack, tmp_path / "run")
    with pytest.raises(InputError, match="got units alone"):
        labelled_units(bare, "train", stack)
    assert labelled_units(bare, "train", stack, prosody=False)[1].units.tolist() == [1, 3, 5]
    outcome = run_method("ngram", Job(bare, stack, tmp_path / "cell"))
    assert len(outcome.predictions["test"]) == 8
    assert perplexity(stack.lm, quantize_utterances(rows, stack)) > 1


def test_a_server_answers_as_predict_does(stack: Stack, clips: list[Path], tmp_path: Path) -> None:
    labels = ("falls", "rises", "stays")
    configs = {
        "deep": PromptConfig(length=3, seed=1, n_offsets=2),
        "deep-too": PromptConfig(length=5, seed=2, n_offsets=1),
        "separators": PromptConfig(length=3, seed=3, n_separators=2, n_offsets=1),
        "input": PromptConfig(kind="input", length=3, seed=4, pool="mean", n_offsets=1),
        "spelling": PromptConfig(length=3, seed=5, verbalizer="frequency"),
    }
    runs = Runs(str(stack.folder))
    for name, config in configs.items():
        write_random_run(tmp_path / name, stack, labels, config, spells=name == "spelling")
        runs.add(tmp_path / name)
    with served(Service(runs, Limits())) as client:
        for clip in clips:
            reply = client.ask("POST", "/classify", clip.read_bytes(), run=list(configs))
            assert reply.status == 200, reply.body
            for answer in reply.json["answers"]:
                [expected] = predict(runs.get(answer["run"]).run, clip)
                assert answer["label"] == expected.label
                assert answer["probability"] == pytest.approx(expected.probability, abs=1e-5)
        reply = client.label_units(("spelling", [1, 2, 3]))
        assert reply.status == 200, reply.body
        for name in ("deep", "input"):
            reply = client.label_units((name, [1, 2, 3]))
            assert reply.status == 422
            assert "got units alone" in reply.problem["message"]


def test_texts_are_said_of_units_alone(stack: Stack, clips: list[Path], tmp_path: Path) -> None:
    config = PromptConfig(length=3, seed=5, verbalizer="frequency")
    write_random_run(tmp_path / "spelling", stack, ("a", "b", "c"), config, spells=True)
    run = load_run(tmp_path / "spelling", stack=stack)
    heard = read_audio(clips[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.pitch.measure_f0", None)  # not called
        assert predict(run, heard)[0].label


def test_a_model_that_reads_no_prosody_is_given_none(stack: Stack, task: Task, tmp_path: Path) -> None:
    lm = stack.lm
    assert isinstance(lm, PGSLM)
    deaf = PGSLM(lm.config, lm.vocab, replace(lm.prosody, duration_input=False, f0_input=False)).initialise(3)
    other = replace(stack)
    object.__setattr__(other, "lm", deaf.freeze())
    assert not other.reads_prosody
    assert all(row.units.ndim == 1 for row in labelled_units(task, "test", other))
