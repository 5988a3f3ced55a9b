"""The quickstart keeps its promises on any stack: figures, sounds, a report whose commands repeat it."""

from __future__ import annotations

import errno
import html
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechprompt import quickstart as quickstart_module
from speechprompt.cli import run
from speechprompt.quickstart import LENGTH_S, PROMPT, SEED_S, quickstart
from speechprompt.run_record import RunExistsError
from speechprompt.train_config import TrainConfig
from tasks.unit_error_rate import unit_error_rate
from units.audio import read_audio
from units.types import UnitSequence, UnitSpec

PROMISED = [
    "accuracy",
    "baseline_majority",
    "baseline_ngram",
    "trainable_parameters",
    "frozen_parameters",
    "seconds",
]
QUICK = TrainConfig(max_epochs=1, batch_rows=128, speed_perturbation=())


@pytest.fixture(scope="module")
def done(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished quickstart, in a folder that was there and empty, and what it returned."""
    out = tmp_path_factory.mktemp("quickstart")
    return out, quickstart(out, tiny_stack, seed=3, config=QUICK)


def test_figures_are_those_promised(done: tuple[Path, dict[str, Any]]) -> None:
    out, returned = done
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == returned
    assert list(metrics)[: len(PROMISED)] == PROMISED
    assert metrics["n"] == 300 and metrics["baseline_majority"] == 0.1
    assert metrics["accuracy"] * 300 == pytest.approx(round(metrics["accuracy"] * 300), abs=1e-3)
    record = json.loads((out / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["prompt"]["length"] == PROMPT.length and record["training"]["seed"] == 3
    assert metrics["trainable_parameters"] == record["trainable_parameters"] > 0
    assert metrics["frozen_parameters"] == record["frozen_parameters"] > 0


def test_sounds_are_there(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    assert {path.name for path in out.glob("*.wav")} == {
        *(f"clip_{i}.wav" for i in (1, 2, 3)),
        *("sentence.wav", "resynthesized.wav", "continuation_1.wav", "continuation_2.wav"),
    }
    first, second = (read_audio(out / f"continuation_{i}.wav") for i in (1, 2))
    for wave in (first, second):
        assert len(wave) / 16_000 == pytest.approx(SEED_S + LENGTH_S, abs=0.05)
    assert not np.array_equal(first, second)


def test_report_shows_figures_and_sounds(done: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = done
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 7 and page.count('class="timeline"') == 7
    for share in ("accuracy", "baseline_ngram", "baseline_majority"):
        assert f"{100 * metrics[share]:.1f}%" in page
    for count in ("trainable_parameters", "frozen_parameters"):
        assert f"{metrics[count]:,}" in page
    assert "CC BY-SA 4.0" in page and "Apache-2.0" in page  # the page carries their recordings


def test_commands_of_the_report_repeat_it(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, metrics = done
    monkeypatch.chdir(tmp_path)
    listed = re.search("<pre><code>(.*?)</code></pre>", (out / "report.html").read_text("utf-8"), re.DOTALL)
    assert listed is not None
    commands = [
        shlex.split(line) for line in html.unescape(listed[1]).splitlines() if not line.startswith("#")
    ]
    assert [command[:2] for command in commands] == [
        ["speechprompt", verb] for verb in ("quickstart", "evaluate", "predict", "resynthesize", "continue")
    ]
    for command in commands[1:]:  # the first is what this module ran
        assert run(command[1:]) == 0
    assert (tmp_path / "again.wav").read_bytes() == (out / "resynthesized.wav").read_bytes()
    assert (tmp_path / "more.wav").read_bytes() == (out / "continuation_1.wav").read_bytes()
    record = json.loads((out / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["metrics"]["test"]["accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-6)


def test_an_earlier_one_stays_until_the_next_is_done(
    done: tuple[Path, dict[str, Any]], tiny_stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("metrics.json", "report.html", "old.wav"):
        (out / name).write_text("old", encoding="utf-8")

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=f"No space left.*{out.name}") as caught:
        patch.setattr(quickstart_module, "train", fails)
        quickstart(out, tiny_stack, seed=3, config=QUICK)
    assert caught.value.filename == str(out)
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.html", "old.wav"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    again = quickstart(out, tiny_stack, seed=3, config=QUICK)
    assert {**again, "seconds": 0} == {**done[1], "seconds": 0}  # equal seeds, equal results
    assert not (out / "old.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_left_alone(tiny_stack: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunExistsError, match=re.escape(str(tmp_path))):
        quickstart(tmp_path, tiny_stack)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_unit_error_rate_counts_edits() -> None:
    spec = UnitSpec("test", 1, 50, 50.0, "0123456789ab")

    def of(*units: int) -> UnitSequence:
        return UnitSequence(np.array(units), spec)

    meant = of(1, 1, 12, 3, 3, 4)  # 1 12 3 4
    assert unit_error_rate(of(1, 12, 12, 12, 3, 4), meant) == 0
    assert unit_error_rate(of(1, 3, 4), meant) == 0.25  # one deleted
    assert unit_error_rate(of(1, 1, 2, 3, 4, 5), meant) == 0.5  # one replaced, one inserted
