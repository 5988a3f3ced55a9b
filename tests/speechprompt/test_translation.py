"""Translation: pairs that the test makes, from the command line to ASR-BLEU."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from speechprompt.cli import run
from speechprompt.generate.inpainting_run import load_inpainting_run
from speechprompt.generate.translation import (
    TranslationConfig,
    load_translation_run,
    translate_speech,
    units_of,
)
from speechprompt.generate.translation_evaluation import evaluate_translation
from speechprompt.run_record import RunError
from speechprompt.seq2seq.decoding import WritingConfig
from speechprompt.stack_folder import load_stack
from speechprompt.training_log import read_log
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio
from units.errors import InputError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def pairs(digits_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pairs: a digit said by one speaker, and the next digit by another."""
    folder = tmp_path_factory.mktemp("pairs")
    by_digit: dict[int, list[str]] = {}
    with (digits_sample / "train.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            by_digit.setdefault(int(row["label"]), []).append(str(digits_sample / row["path"]))
    rows = [
        (by_digit[digit][take], by_digit[(digit + 1) % 10][take + 5], WORDS[(digit + 1) % 10], split)
        for take, split in enumerate(("train", "train", "valid", "test"))
        for digit in range(5)
    ]
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([("source", "target", "text", "split"), *rows])
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def translation_run(pairs: Path, seq2seq_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "translation"
    command = ["train", "--task", "translation", "--data", str(pairs), "--stack", str(seq2seq_stack)]
    options = ["--max-epochs", "12", "--lr", "0.05", "--source-language", "und", "--out", str(folder)]
    assert run(command + options) == 0
    return folder


def test_training_learns_and_records_what_it_is(translation_run: Path) -> None:
    opened = load_translation_run(translation_run)
    assert opened.record.task == "translation" and opened.config == TranslationConfig("und")
    assert opened.record.prompt["length"] == 20  # without --prompt-length
    log = read_log(translation_run)
    assert {name for name in log[0] if name.startswith("valid_")} == {"valid_loss", "valid_unit_accuracy"}
    assert log[-1]["valid_loss"] < log[0]["valid_loss"]
    assert opened.record.metrics["valid"]["loss"] == min(row["valid_loss"] for row in log)
    with pytest.raises(RunError, match="task inpainting"):
        load_inpainting_run(translation_run)
    with pytest.raises(RunError, match="task translation"):
        load_translation_run(_as_inpainting(translation_run))


def test_units_are_those_of_both_recordings(pairs: Path, seq2seq_stack: Path) -> None:
    stack, utterances = load_stack(seq2seq_stack), get_task("translation", pairs).utterances("test")
    for target in (False, True):
        units = units_of(utterances, stack, target=target)
        for row, utterance in zip(units, utterances, strict=True):
            path = utterance.target_path if target else utterance.path
            assert path is not None
            assert row.tolist() == stack.quantize(path)[0].units.tolist()
    with pytest.raises(InputError, match="target recording"):
        units_of(get_task("spoken_digits").utterances("test")[:1], stack, target=True)


def test_the_verb_says_what_the_model_writes(
    translation_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, source = load_translation_run(translation_run), read_audio(READ_SENTENCE)[:16_000]
    warm = ["--temperature", "1.0"]
    command = [
        "translate",
        str(READ_SENTENCE),
        "--run",
        str(translation_run),
        "--out",
        str(tmp_path / "a.wav"),
    ]
    assert run([*command, *warm, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["units"]) > 0 and len(read_audio(tmp_path / "a.wav")) == pytest.approx(
        told["seconds"] * 16_000
    )
    assert run([*command, "--beam", "2", *warm]) == 2
    assert "a beam or sampling" in capsys.readouterr().err
    with pytest.raises(InputError, match="reads at once"):
        translate_speech(opened, np.tile(read_audio(READ_SENTENCE), 6))
    assert opened.speak(np.empty(0, dtype=np.int64)).shape == (0,)
    [written] = opened.write([opened.stack.quantize([source])[0].units])
    assert written.dtype == np.int64


def test_evaluation_gives_asr_bleu_and_unit_errors(
    translation_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(translation_run), "--judge", "pocketsphinx", "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)
    for name in ("asr_bleu", "unit_error_rate", "judge_wer", "judge_cer"):
        low, high = measures[f"{name}_interval_95"]
        assert low <= measures[name] <= high
    assert (measures["n"], measures["judge_reference"]) == (5, "text")
    assert load_translation_run(translation_run).record.metrics["test"] == measures
    assert run(["evaluate", str(translation_run), "--split", "valid", "--beam", "2"]) == 0
    assert "unit error rate" in capsys.readouterr().out


class Echo:
    """A judge that writes down how loud a recording is, in words."""

    name = "echo"

    def __call__(self, waves: list[np.ndarray], sample_rate: int) -> list[str]:
        return [" ".join(WORDS[int(letter)] for letter in f"{len(wave):05}") for wave in waves]


def test_a_run_that_says_the_targets_has_the_highest_score(
    translation_run: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = load_translation_run(translation_run)
    utterances = get_task("translation", pairs).utterances("test")
    meant = units_of(utterances, opened.stack, target=True)
    monkeypatch.setattr(type(opened), "write", lambda self, sources, writing=None: meant)
    monkeypatch.setattr(type(opened), "speak", lambda self, units, speaker=None: read_audio(_path(units)))

    def _path(units: np.ndarray) -> Path:
        place = next(i for i, row in enumerate(meant) if row is units)
        path = utterances[place].target_path
        assert path is not None
        return path

    without_text = tmp_path / "pairs.csv"
    rows = [row.rsplit(",", 2) for row in pairs.read_text().splitlines()]
    without_text.write_text("\n".join(f"{row[0]},{row[2]}" for row in rows) + "\n")
    measures = evaluate_translation(opened, data=without_text, judge=Echo(), writing=WritingConfig())
    assert measures["asr_bleu"] == pytest.approx(100) and measures["judge_wer"] == 0
    assert (measures["unit_error_rate"], measures["judge_reference"]) == (0, "clean")


def _as_inpainting(folder: Path) -> Path:
    """The run's record as that of another task."""
    other = folder.parent / "other"
    other.mkdir(exist_ok=True)
    record = json.loads((folder / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(record | {"task": "spoken_digits", "generation": {}}))
    return other
