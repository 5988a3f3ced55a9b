"""Every verb does what it says, prints one JSON object when asked, and `--help` costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speechprompt
from speechprompt.cli import run
from speechprompt.cli.app import app
from speechprompt.cli.boundary import guarded
from speechprompt.stack_folder import load_stack
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio
from units.store import UnitStore

VERBS = [
    "quickstart",
    "quantize",
    "pretrain",
    "train",
    "evaluate",
    "predict",
    "score",
    "suite",
    "resynthesize",
    "continue",
    "inpaint",
    "translate",
    "demo",
    "serve",
    "fetch",
    "convert",
]
HEAVY = ["torch", "transformers", "sklearn", "pyarrow", "numpy"]


def result_of(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a verb with --json; its standard output must be one JSON object."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # no progress bar when this is no terminal
    content: dict[str, Any] = json.loads(printed.out)
    return content


def fresh_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a new interpreter, into which nothing was imported yet, prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from speechprompt.cli import run; code = run(['--help']); import speechprompt as sp; dir(sp); "
        f"print('loaded', [name for name in {HEAVY} if name in sys.modules], code)"
    )
    done = fresh_python("-c", code)
    assert done.stdout.splitlines()[-1] == "loaded [] 0"
    assert all(verb in done.stdout for verb in VERBS)


def test_to_predict_loads_no_metrics() -> None:
    code = (
        "import sys, speechprompt.evaluation, speechprompt.demo.classification; "
        "print([name for name in ('torchmetrics', 'sklearn') if name in sys.modules])"
    )
    done = fresh_python("-c", code)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert f"Example: speechprompt {verb} " in capsys.readouterr().out


def test_every_verb_is_tested() -> None:
    assert [command.name for command in app.registered_commands] == VERBS


def test_module_is_the_command() -> None:
    done = fresh_python("-m", "speechprompt", "--version")
    assert (done.returncode, done.stdout) == (0, f"speechprompt {speechprompt.__version__}\n")


@pytest.mark.parametrize("name", speechprompt.__all__)
def test_public_names_lead_somewhere(name: str) -> None:
    assert getattr(speechprompt, name) is getattr(speechprompt, name)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        speechprompt.nonsense  # noqa: B018


def test_quantize_files(tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "units"
    result = result_of(["quantize", READ_SENTENCE, "--stack", tiny_stack, "--out", out], capsys)
    [row] = UnitStore(out).rows()
    [expected] = load_stack(tiny_stack).quantize([READ_SENTENCE])
    np.testing.assert_array_equal(row.units, expected.units)
    np.testing.assert_array_equal(row.durations, expected.durations)
    assert (result["n"], result["n_units"]) == (1, len(expected))
    assert result["spec"] == expected.spec.to_dict()


def test_quantize_a_table_frame_by_frame(
    two_words: Path, tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "units"
    table = two_words / "test.csv"
    result = result_of(
        ["quantize", "--manifest", table, "--stack", tiny_stack, "--out", out, "--frames"], capsys
    )
    rows = list(UnitStore(out).rows())
    assert result["n"] == len(rows) == 8
    assert [row.label for row in rows] == ["واحد"] * 4 + ["six"] * 4
    assert all(row.durations is None for row in rows)


def test_quantize_keeps_what_succeeds_and_says_what_failed(
    tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, missing = tmp_path / "units", tmp_path / "missing.wav"
    command = ["quantize", str(READ_SENTENCE), str(missing), "--stack", str(tiny_stack), "--out", str(out)]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 1 of 2 files failed") and str(missing) in error and error.count("\n") == 1
    assert len(list(UnitStore(out).rows())) == 1
    assert str(missing) in (out / "failures.csv").read_text(encoding="utf-8")


def test_train_says_what_was_trained(word_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in word_run.iterdir()} >= {"prompt.safetensors", "run.json", "log.csv"}
    record = json.loads((word_run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished" and set(record["labels"]) == {"واحد", "six"}
    assert len((word_run / "log.csv").read_text().splitlines()) == 3  # header and two epochs


def test_train_passes_its_options_on(
    two_words: Path, tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [
        "train",
        "--task",
        "csv_classification",
        "--data",
        two_words,
        "--stack",
        tiny_stack,
        "--out",
        out,
    ]
    options = [
        "--prompt",
        "input",
        "--prompt-length",
        "3",
        "--verbalizer",
        "random",
        "--lr",
        "0.01",
        "--seed",
        "7",
    ]
    more = [
        "--max-epochs",
        "1",
        "--patience",
        "2",
        "--batch-tokens",
        "512",
        "--unit-dropout",
        "0.1",
        "--speeds",
        "1,1.1",
        "--read",
        "logits",
    ]
    result = result_of([*command, *options, *more], capsys)
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    prompt, training = record["prompt"], record["training"]
    expected = {"kind": "input", "length": 3, "verbalizer": "random", "read": "logits", "seed": 7}
    assert {name: prompt[name] for name in expected} == expected
    expected = {
        "lr": 0.01,
        "max_epochs": 1,
        "patience": 2,
        "batch_tokens": 512,
        "unit_dropout": 0.1,
        "seed": 7,
    }
    assert {name: training[name] for name in expected} == expected
    assert training["speed_perturbation"] == [1.0, 1.1]
    assert (
        result["trainable_parameters"] == 3 * 32 + 32
    )  # three rows and the separator of a model of width 32
    assert result["epochs"] == 1 and 0 <= result["valid"]["accuracy"] <= 1


def test_evaluate_has_the_promised_keys(word_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(["evaluate", word_run, "--split", "test"], capsys)
    assert {"accuracy", "macro_f1", "interval_95", "n"} <= result.keys()
    low, high = result["interval_95"]
    assert result["n"] == 8 and 0 <= low <= result["accuracy"] <= high <= 1
    assert run(["evaluate", str(word_run)]) == 0
    assert f"{100 * result['accuracy']:.1f}%" in capsys.readouterr().out


def test_predict_labels_in_order(
    word_run: Path, digits_sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = sorted((digits_sample / "recordings").glob("1_*"))[:2]
    result = result_of(["predict", word_run, *clips], capsys)
    assert [p["path"] for p in result["predictions"]] == [str(clip) for clip in clips]
    for prediction in result["predictions"]:
        assert prediction["label"] == prediction["top"][0]["label"]
        assert sum(guess["probability"] for guess in prediction["top"]) == pytest.approx(1)


def test_resynthesize_speaks_the_units(
    tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.flac"
    result = result_of(["resynthesize", READ_SENTENCE, "--stack", tiny_stack, "--out", out], capsys)
    stack = load_stack(tiny_stack)
    [units] = stack.quantize([READ_SENTENCE])
    assert result["units"] == units.units.tolist()
    np.testing.assert_allclose(read_audio(out), np.clip(stack.vocoder(units), -1, 1), atol=2 / 32768)


def test_continue_lasts_as_long_as_asked(
    tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more.wav"
    command = [
        "continue",
        READ_SENTENCE,
        "--seed-s",
        "1",
        "--length-s",
        "0.5",
        "--stack",
        tiny_stack,
        "--out",
        out,
    ]
    result = result_of(command, capsys)
    assert result["seconds"] == pytest.approx(result["seed_seconds"] + 0.5, abs=0.011)
    assert len(read_audio(out)) == round(result["seconds"] * 16_000)
    assert result_of(command, capsys) == result
    assert result_of([*command, "--seed", "1"], capsys)["units"] != result["units"]
    assert result_of([*command, "--greedy"], capsys)["n_seed_units"] == result["n_seed_units"]


def test_a_stop_from_the_keyboard_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    assert guarded(stopped) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_bug_keeps_its_traceback() -> None:
    def buggy() -> None:
        raise ValueError("an internal matter")

    with pytest.raises(ValueError, match="internal"):
        guarded(buggy)
