"""A suite is run: each cell once, whatever is killed in between, and a cell that fails does not stop the others."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speechprompt.cli import run as run_command_line
from speechprompt.suite.cell_files import all_results, read_failure, read_predictions
from speechprompt.suite.claims import claimed
from speechprompt.suite.command import cells_of
from speechprompt.suite.plan import Cell, SuiteError
from speechprompt.suite.share import Share
from speechprompt.suite.suite import run_suite
from speechprompt.suite.workers import Workers, worker_environment

FAST = ["prompt.max_epochs=2", "prompt.speed_perturbation=[]"]
CELLS = "majority,ngram,prompt"


@pytest.fixture(scope="module")
def make_cells(two_words: Path, tiny_stack: Path) -> Callable[..., list[Cell]]:
    """Cells of the task `words` on two spoken words, with the small stack."""

    def make(
        methods: str = CELLS, seeds: str = "0,1", settings: list[str] = FAST, **more: object
    ) -> list[Cell]:
        names = [name.partition("=")[0] for name in methods.split(",")]
        return cells_of(
            "words=csv_classification",
            methods,
            seeds,
            data=[f"words={two_words}"],
            stack=str(tiny_stack),
            settings=[text for text in settings if text.split(".")[0] in names],
            **more,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture(scope="module")
def undisturbed(make_cells: Callable[..., list[Cell]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite that nothing stopped, run in this process."""
    out = tmp_path_factory.mktemp("suites") / "whole"
    result = run_suite(make_cells(), out, n_workers=0)
    assert (result.n_done, result.n_ran, result.failures) == (6, 6, [])
    return out


def what_counts(out: Path) -> dict[str, tuple[str, object]]:
    """Predictions and metrics of every cell, without dates and durations."""
    return {
        result.cell.name: (
            (result.folder / "predictions.csv").read_text(encoding="utf-8"),
            [result.content[key] for key in ("metrics", "trainable_parameters", "labels", "utterances")],
        )
        for result in all_results(out)
    }


def test_every_cell_has_its_files_and_a_line_in_every_table(undisturbed: Path) -> None:
    names = [result.cell.name for result in all_results(undisturbed)]
    assert len(names) == 6 and "words-tiny/prompt/all/seed1" in names
    result = json.loads((undisturbed / "words-tiny/prompt/all/seed1/result.json").read_text(encoding="utf-8"))
    assert {
        "metrics",
        "trainable_parameters",
        "seconds",
        "spec",
        "versions",
        "command",
        "date",
        "machine",
    } <= set(result)
    assert len(result["history"]) == 2 and result["cell"]["seed"] == 1
    predictions = read_predictions(undisturbed / "words-tiny/prompt/all/seed1", "test")
    assert len(predictions.ids) == 8 and predictions.scores is not None and predictions.scores.shape == (8, 2)
    right = sum(t == p for t, p in zip(predictions.targets, predictions.predictions, strict=True))
    assert right / 8 == result["metrics"]["test"]["accuracy"]

    with (undisturbed / "suite.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["folder"] for row in rows} == set(names)
    assert {(row["split"], row["metric"]) for row in rows} == {
        (split, metric) for split in ("valid", "test") for metric in ("accuracy", "macro_f1")
    }
    table = json.loads((undisturbed / "suite.json").read_text(encoding="utf-8"))
    assert [row["n_seeds"] for row in table["rows"]] == [2, 2, 2]
    markdown = (undisturbed / "suite.md").read_text(encoding="utf-8")
    assert all(f"| {method} | all |" in markdown for method in CELLS.split(","))


def test_the_page_holds_every_cell(undisturbed: Path) -> None:
    page = (undisturbed / "report.html").read_text(encoding="utf-8")
    assert all(f"<code>{result.cell.name}</code>" in page for result in all_results(undisturbed))
    assert "واحد" in page and "prompt: validation accuracy" in page


def test_what_has_been_run_is_not_run_again(undisturbed: Path, make_cells: Callable[..., list[Cell]]) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*/*/*/*")}
    result = run_suite(make_cells(), undisturbed, n_workers=2)
    assert (result.n_done, result.n_ran) == (6, 0)
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/*/*/*/*")}


def test_a_cell_of_other_settings_is_refused_before_anything_runs(
    undisturbed: Path, make_cells: Callable[..., list[Cell]]
) -> None:
    with pytest.raises(
        SuiteError, match=r"variant\.settings\.max_epochs = 3, got one with 2; .* another name"
    ):
        run_suite(make_cells(settings=["prompt.max_epochs=3"]), undisturbed, n_workers=0)


def test_a_suite_killed_and_resumed_by_two_workers_equals_an_undisturbed_one(
    undisturbed: Path,
    make_cells: Callable[..., list[Cell]],
    two_words: Path,
    tiny_stack: Path,
    tmp_path: Path,
) -> None:
    command = [
        "suite",
        "--tasks",
        "words=csv_classification",
        "--data",
        f"words={two_words}",
        "--methods",
        CELLS,
    ]
    command += [
        "--stack",
        str(tiny_stack),
        "--seeds",
        "0,1",
        "--out",
        str(tmp_path / "cut"),
        "--workers",
        "0",
    ]
    for setting in FAST:
        command += ["--settings", setting]
    killed = subprocess.Popen([sys.executable, "-m", "speechprompt", *command], env=worker_environment(1))
    while not list((tmp_path / "cut").glob("*/prompt/all/seed0/run/run.json")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    n_before = len(all_results(tmp_path / "cut"))
    assert 0 < n_before < 6
    torn = [tmp_path / "cut" / ".tmp-18cu4b62-suite.md"]  # as if it had been killed while it wrote
    torn.append(next((tmp_path / "cut").glob("*/prompt/all/seed0")) / ".tmp-18cu4b62-result.json")
    for file in torn:
        file.touch()

    result = run_suite(make_cells(), tmp_path / "cut", n_workers=2)
    assert (result.n_done, result.n_ran, result.failures) == (6, 6 - n_before, [])
    assert what_counts(tmp_path / "cut") == what_counts(undisturbed)
    assert not any(file.exists() for file in torn)


def test_a_failing_cell_is_listed_and_the_others_go_on(
    two_words: Path, tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["suite", "--tasks", "words=csv_classification", "--data", f"words={two_words}", "--seeds", "0"]
    command += ["--methods", "bad=prompt,majority", "--settings", "bad.lr=-1", "--stack", str(tiny_stack)]
    out = tmp_path / "<b>out"
    assert run_command_line([*command, "--out", str(out), "--workers", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 1 of 2 cells failed") and said.count("\n") == 1
    assert "words-tiny/bad/all/seed0: lr: expected above 0" in said
    assert [result.cell.variant.name for result in all_results(out)] == ["majority"]
    assert "words-tiny/bad/all/seed0" in (out / "suite.md").read_text(encoding="utf-8")
    assert json.loads((out / "suite.json").read_text(encoding="utf-8"))["failures"][0]["name"].endswith(
        "bad/all/seed0"
    )


def test_a_worker_that_dies_fails_its_cell_alone(
    make_cells: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    cells = make_cells("prompt,majority", "0")
    told = []
    workers = Workers(tmp_path, n_workers=1, devices=["cpu"], command="", since=time.time())

    def listen(event: str, cell: Cell) -> None:
        told.append((event, cell.variant.name))
        if told == [("begin", "prompt")]:
            workers.kill()

    workers.run(cells, listen)
    assert told == [("begin", "prompt"), ("failed", "prompt"), ("begin", "majority"), ("done", "majority")]
    failure = read_failure(tmp_path, cells[0])
    assert failure is not None and "signal 9" in failure.error


def test_a_bug_that_every_worker_dies_of_ends_the_suite(
    make_cells: Callable[..., list[Cell]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys, json; sys.stdin.readline(); print(json.dumps(['begin', {}]), flush=True); 1 / 0"
    numbers = iter(range(9))

    def broken(_: list[str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", program.format(next(numbers))], **more)

    monkeypatch.setattr("speechprompt.suite.workers.start_process", broken)
    workers = Workers(tmp_path, n_workers=1, devices=["cpu"], command="", since=0.0)
    with pytest.raises(RuntimeError, match=r"3 workers of the suite in a row: .*ZeroDivisionError"):
        workers.run(make_cells("majority", "0,1,2,3"), lambda event, cell: None)


def test_a_worker_stops_when_its_parent_is_gone(
    make_cells: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    job = {"cells": [cell.to_dict() for cell in make_cells("prompt", "0", ["prompt.max_epochs=10000"])]}
    job |= {"out": str(tmp_path), "device": "cpu", "command": "", "since": 0}
    worker = subprocess.Popen(
        [sys.executable, "-m", "speechprompt.suite.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=worker_environment(1),
    )
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(json.dumps(job).encode() + b"\n")
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline()) == ["begin", 0]
    worker.stdin.close()
    assert worker.wait(60) == 1


def test_a_cell_that_another_process_runs_is_left_to_it(
    make_cells: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    cells = make_cells("majority", "0,1")
    with claimed(tmp_path, cells[0]) as mine:
        assert mine
        result = run_suite(cells, tmp_path, n_workers=0)
    assert (result.n_done, result.n_elsewhere) == (1, 1)
    assert run_suite(cells, tmp_path, n_workers=0).n_done == 2


def test_shards_and_ranks_end_in_the_whole_table(
    make_cells: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    cells = make_cells("majority", "0,1,2")
    parts = [run_suite(cells, tmp_path / "a", n_workers=0, share=Share(i, 2, strict=True)) for i in (0, 1)]
    assert [part.n_ran for part in parts] == [2, 1]
    assert len(json.loads((tmp_path / "a" / "suite.json").read_text(encoding="utf-8"))["cells"]) == 3
    second = run_suite(
        cells, tmp_path / "b", n_workers=0, share=Share(1, 2)
    )  # the other has not begun: all are its
    assert second.n_ran == 3
    assert not (tmp_path / "b" / "suite.json").exists()  # which the first process writes
    assert run_suite(cells, tmp_path / "b", n_workers=0, share=Share(0, 2)).n_ran == 0
    assert (tmp_path / "b" / "suite.json").exists()


def test_few_shots_have_cells_and_rows_of_their_own(
    make_cells: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    cells = make_cells("ngram,majority", "0", shots="1,2,9999", n_draws=2)
    result = run_suite(cells, tmp_path, n_workers=0)
    assert result.n_done == 8 and {f.cell.shots for f in result.failures} == {9999}
    rows = json.loads((tmp_path / "suite.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["shots"], row["n_cells"]) for row in rows] == [(1, 2), (1, 2), (2, 2), (2, 2)]
    content = json.loads(
        (tmp_path / "words-tiny/ngram/2-shot/seed0-draw1/result.json").read_text(encoding="utf-8")
    )
    assert content["utterances"]["train"] == 2 * 2 and content["utterances"]["test"] == 8
    assert content["utterances"]["valid"] <= 2 * 2
