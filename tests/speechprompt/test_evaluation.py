from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.evaluation import evaluate, predict, probabilities
from speechprompt.run import Run, load_run
from speechprompt.run_record import RECORD_FILE, RunError, read_record
from speechprompt.stack import Stack, StackError
from speechprompt.stack_folder import load_stack
from speechprompt.train_config import TrainConfig
from speechprompt.training import train
from speechprompt.views import offset_views
from tasks import LabelError, Task, get_task
from units.audio import read_audio
from units.errors import InputError, UnitSpecMismatch


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(
        "spoken_digits",
        stack,
        tmp_path_factory.mktemp("runs") / "run",
        config=TrainConfig(max_epochs=2, speed_perturbation=()),
    )


@pytest.fixture(scope="module")
def digits() -> Task:
    return get_task("spoken_digits")


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A copy of the run that may be spoilt."""
    return Path(shutil.copytree(run.folder, tmp_path / "run"))


def test_a_report_counts_what_predictions_say(run: Run, digits: Task) -> None:
    report = evaluate(run.folder, "test")
    utterances = digits.utterances("test")
    said = [p.label for p in predict(run, [u.path for u in utterances if u.path is not None])]
    right = [label == utterance.target for label, utterance in zip(said, utterances, strict=True)]
    assert report["n"] == len(utterances) == 300
    assert report["accuracy"] == pytest.approx(np.mean(right))
    assert report["interval_95"][0] <= report["accuracy"] <= report["interval_95"][1]
    assert np.sum(report["confusion"]) == report["n"]
    assert report["labels"] == list(digits.labels)


def test_the_metrics_go_into_the_record(folder: Path) -> None:
    report = evaluate(folder, "valid")
    stored = read_record(folder).metrics["valid"]
    assert stored["accuracy"] == report["accuracy"]
    assert stored["n"] == report["n"]
    assert json.loads(json.dumps(report)) == report


def test_validation_gives_again_what_training_saw(run: Run) -> None:
    best = max(row["valid_accuracy"] for row in run.history)
    assert evaluate(run, "valid")["accuracy"] == pytest.approx(best)


def test_evaluation_quantizes_nothing_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(folder, "test")

    def load(*of: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr("speechprompt.stack.load_encoder", load)
    evaluate(folder, "test")


def test_predictions_are_probabilities_in_order(run: Run, digits: Task) -> None:
    paths = [u.path for u in digits.utterances("test")[::75] if u.path is not None]
    predictions = predict(run, paths)
    assert [prediction.path for prediction in predictions] == paths
    for prediction in predictions:
        assert len(prediction.top) == 3
        assert prediction.top[0] == (prediction.label, prediction.probability)
        values = [probability for _, probability in prediction.top]
        assert values == sorted(values, reverse=True)
        assert 0 < sum(values) <= 1
        assert {label for label, _ in prediction.top} <= set(digits.labels)


def test_a_prediction_does_not_depend_on_the_others(run: Run, digits: Task) -> None:
    paths = [u.path for u in digits.utterances("test")[::60] if u.path is not None]
    together = predict(run, paths)
    for path, expected in zip(paths, together, strict=True):
        [alone] = predict(run.folder, path)
        assert alone.label == expected.label
        assert alone.probability == pytest.approx(expected.probability, abs=1e-5)
    [heard] = predict(run, read_audio(paths[0]))
    assert heard.path is None
    assert heard.label == together[0].label
    assert predict(run, []) == []


def test_probabilities_sum_to_one_and_two_labels_are_enough(run: Run) -> None:
    rows = [np.array([1, 2, 3]), np.array([5])]
    probability_NC = probabilities(run, [rows])
    assert probability_NC.shape == (2, 10)
    torch.testing.assert_close(probability_NC.sum(1), torch.ones(2))
    both_NC = probabilities(run, [rows, rows[::-1]])  # two views of each recording
    torch.testing.assert_close(both_NC[0], both_NC[1])
    assert not torch.allclose(both_NC[0], probability_NC[0])


def test_a_recording_is_judged_by_all_its_offsets(run: Run, digits: Task) -> None:
    paths = [u.path for u in digits.utterances("test")[::75] if u.path is not None]
    units = run.stack.units_in_views(paths, offset_views(4))
    log_p_VNC = torch.stack([probabilities(run, [rows]).log() for rows in units])
    expected_NC = log_p_VNC.mean(0).softmax(1)
    assert run.n_offsets == 4
    for prediction, p_C in zip(predict(run, paths), expected_NC, strict=True):
        assert prediction.probability == pytest.approx(p_C.max().item(), abs=1e-5)
        assert run.record.labels.index(prediction.label) == p_C.argmax()


def test_a_run_from_before_there_were_offsets_hears_once(folder: Path, digits: Task) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    del record["prompt"]["n_offsets"]
    (folder / RECORD_FILE).write_text(json.dumps(record))
    old = load_run(folder)
    path = digits.utterances("test")[0].path
    assert path is not None and old.n_offsets == 1
    [units] = old.stack.quantize(path)
    assert predict(old, path)[0].probability == pytest.approx(
        probabilities(old, [[units.units]]).max().item()
    )


def test_a_moved_task_is_found_where_the_caller_says(folder: Path, digits: Task, tmp_path: Path) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    (folder / RECORD_FILE).write_text(json.dumps({**record, "data": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="gone"):
        evaluate(folder)
    assert evaluate(folder, data=digits.root)["n"] == 300
    assert evaluate(folder, task=digits)["n"] == 300


def test_a_task_of_other_labels_is_refused(folder: Path, digits: Task) -> None:
    few = {split: [u for u in us if u.target in "12"] for split, us in digits.splits.items()}
    with pytest.raises(LabelError, match="only one of them"):
        evaluate(folder, task=replace(digits, labels=("1", "2"), splits=few))
    with pytest.raises(LabelError, match="another order"):
        evaluate(folder, task=replace(digits, labels=digits.labels[::-1]))


def test_an_unknown_split_is_refused_with_the_choices(folder: Path) -> None:
    with pytest.raises(InputError, match=r"train, .*valid|valid.*train"):
        evaluate(folder, "dev")


def test_a_run_without_a_prompt_says_so(folder: Path) -> None:
    (folder / "prompt.safetensors").unlink()
    with pytest.raises(RunError, match="trained prompt"):
        evaluate(folder)


def test_a_run_of_another_language_model_is_refused(folder: Path, tiny_stack: Path, tmp_path: Path) -> None:
    from speechprompt.lm.gslm import GSLM
    from speechprompt.lm.transformer import TransformerConfig
    from speechprompt.vocab import UnitVocab

    other = Path(shutil.copytree(tiny_stack, tmp_path / "stack"))
    config = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_ffn=64, max_positions=1024)
    GSLM(config, UnitVocab.from_n_units(100)).initialise(seed=1).save(other / "lm")
    with pytest.raises(RunError, match="language model"):
        load_run(folder, stack=other)


def test_a_run_of_another_codebook_is_refused(folder: Path) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    record["spec"]["codebook"] = "ffffffffffff"
    (folder / RECORD_FILE).write_text(json.dumps(record))
    with pytest.raises(UnitSpecMismatch, match="ffffffffffff"):
        load_run(folder)


def test_a_run_whose_stack_has_gone_says_so(folder: Path, tmp_path: Path, tiny_stack: Path) -> None:
    record = json.loads((folder / RECORD_FILE).read_text())
    (folder / RECORD_FILE).write_text(json.dumps({**record, "stack": str(tmp_path / "gone")}))
    with pytest.raises(StackError, match="gone"):
        predict(folder, [])
    assert load_run(folder, stack=tiny_stack).stack.folder == tiny_stack
