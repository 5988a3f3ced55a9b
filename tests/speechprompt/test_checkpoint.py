from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechprompt.batch import LabelledUnits
from speechprompt.checkpoint import (
    PROMPT_FILE,
    STATE_FILE,
    begin_run,
    finish_run,
    load_prompt,
    load_state,
    require_free,
    rows_fingerprint,
    save_prompt,
    save_state,
)
from speechprompt.run_record import (
    RECORD_FILE,
    RunError,
    RunExistsError,
    RunRecord,
    read_record,
    record_metrics,
    write_record,
)
from units.types import UnitSpec

SPEC = UnitSpec("tiny", 2, 100, 50.0, "0123456789ab")


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        task="digits",
        data=None,
        labels=("صفر", "one"),
        stack="mini",
        spec=SPEC,
        lm_fingerprint="f" * 64,
        prompt={"kind": "deep", "length": 5, "seed": 0},
        training={"lr": 5e-3, "betas": (0.9, 0.98), "seed": 0},
        trainable_parameters=10,
        frozen_parameters=1000,
    )


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("units.atomic.os.fsync", fsync)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_record_survives_the_disk(tmp_path: Path, record: RunRecord) -> None:
    begin_run(tmp_path / "run", record)
    assert read_record(tmp_path / "run").differences(record) == []
    assert read_record(tmp_path / "run").to_dict() == record.to_dict()
    assert read_record(tmp_path / "run").labels == record.labels
    assert read_record(tmp_path / "run").spec == SPEC
    assert "صفر" in (tmp_path / "run" / RECORD_FILE).read_text(encoding="utf-8")


def test_versions_say_what_decides_the_numbers(record: RunRecord) -> None:
    assert record.versions["torch"] == torch.__version__
    assert {"python", "accelerate", "speechprompt"} <= set(record.versions)


def test_the_same_run_is_found_again_and_an_empty_folder_taken(tmp_path: Path, record: RunRecord) -> None:
    begin_run(tmp_path, record)
    begin_run(tmp_path, replace(record, versions={"torch": "99"}))
    assert read_record(tmp_path).status == "unfinished"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training": {"lr": 1e-3, "betas": (0.9, 0.98), "seed": 0}}, "lr"),
        ({"prompt": {"kind": "input", "length": 5, "seed": 0}}, "kind"),
        ({"lm_fingerprint": "e" * 64}, "lm_fingerprint"),
        ({"labels": ("one", "صفر")}, "labels"),
        ({"spec": replace(SPEC, layer=3)}, "spec"),
    ],
)
def test_a_run_of_other_settings_is_not_continued(
    tmp_path: Path, record: RunRecord, change: dict, named: str
) -> None:
    begin_run(tmp_path / "run", record)
    before = (tmp_path / "run" / RECORD_FILE).read_bytes()
    with pytest.raises(RunExistsError, match=rf"differs in {named};"):
        begin_run(tmp_path / "run", replace(record, **change))
    assert (tmp_path / "run" / RECORD_FILE).read_bytes() == before


def test_a_finished_run_and_foreign_files_are_left_alone(tmp_path: Path, record: RunRecord) -> None:
    begin_run(tmp_path / "run", record)
    finish_run(tmp_path / "run", {"accuracy": 0.5})
    with pytest.raises(RunExistsError, match="finished"):
        require_free(tmp_path / "run")
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match="something else"):
        begin_run(foreign, record)
    assert files(foreign) == {"thesis.tex"}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunExistsError):
        begin_run(tmp_path / "file", record)


def test_metrics_are_kept_by_split(tmp_path: Path, record: RunRecord) -> None:
    begin_run(tmp_path / "run", record)
    (tmp_path / "run" / "resume").mkdir()
    finish_run(tmp_path / "run", {"accuracy": 0.5})
    record_metrics(tmp_path / "run", "test", {"accuracy": 0.25})
    record_metrics(tmp_path / "run", "test", {"accuracy": 0.75})
    assert read_record(tmp_path / "run").metrics == {"valid": {"accuracy": 0.5}, "test": {"accuracy": 0.75}}
    assert files(tmp_path / "run") == {RECORD_FILE}, "the state to continue from goes when a run is finished"


def test_a_kill_between_the_last_word_and_its_tidying_leaves_no_stray_file(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    for again in (require_free, lambda folder: begin_run(folder, record, finished=True)):
        begin_run(tmp_path / "run", record, finished=True)
        save_state(tmp_path / "run", {"step": 1})
        with monkeypatch.context() as patch:
            patch.setattr("speechprompt.checkpoint.shutil.rmtree", lambda *_, **__: None)  # killed before it
            finish_run(tmp_path / "run", {"accuracy": 0.5})
        assert STATE_FILE in files(tmp_path / "run")
        with contextlib.suppress(RunExistsError):
            again(tmp_path / "run")
        assert files(tmp_path / "run") == {RECORD_FILE}


def test_a_prompt_survives_the_disk_and_fits_one_language_model_only(
    tmp_path: Path, record: RunRecord
) -> None:
    tensors = {"prompt.key": torch.randn(2, 5, 8), "verbalizer.ids": torch.arange(3)}
    save_prompt(tmp_path, tensors, record)
    loaded = load_prompt(tmp_path, record.lm_fingerprint)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    with pytest.raises(RunError, match="eeeeeeeeeeee"):
        load_prompt(tmp_path, "e" * 64)


def test_a_prompt_file_carries_its_spec(tmp_path: Path, record: RunRecord) -> None:
    from safetensors import safe_open

    save_prompt(tmp_path, {"separator": torch.zeros(4)}, record)
    with safe_open(tmp_path / PROMPT_FILE, framework="pt") as content:
        assert UnitSpec.from_dict(json.loads(content.metadata()["speechprompt"])["spec"]) == SPEC


@pytest.mark.parametrize("content", [b"", b"not a tensor", b"\x00" * 100])
def test_damaged_files_are_named_in_one_line(tmp_path: Path, record: RunRecord, content: bytes) -> None:
    for name in (PROMPT_FILE, RECORD_FILE, STATE_FILE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for read in (
        lambda: load_prompt(tmp_path, "f"),
        lambda: read_record(tmp_path),
        lambda: load_state(tmp_path),
    ):
        with pytest.raises(RunError) as caught:
            read()
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run folder"):
        read_record(tmp_path / "nowhere")
    with pytest.raises(RunError, match="trained prompt"):
        load_prompt(tmp_path, "f")
    assert load_state(tmp_path) is None


def test_a_state_survives_the_disk_without_pickled_classes(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    save_state(tmp_path, {"counters": {"step": 3, "loss": 0.1}, "optimizer": optimizer.state_dict()})
    state = load_state(tmp_path)
    assert state is not None
    assert state["counters"] == {"step": 3, "loss": 0.1}
    moments = optimizer.state_dict()["state"][0]
    assert all(torch.equal(state["optimizer"]["state"][0][name], moments[name]) for name in moments)


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run = tmp_path / "run"
    begin_run(run, record)
    save_state(run, {"step": 1})
    save_prompt(run, {"separator": torch.zeros(4)}, record)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    request.getfixturevalue("full_disk")
    writers = [
        lambda: save_state(run, {"step": 2}),
        lambda: save_prompt(run, {"separator": torch.ones(4)}, record),
        lambda: write_record(run, replace(record, status="finished")),
        lambda: begin_run(tmp_path / "new", record),
    ]
    for write in writers:
        with pytest.raises(OSError, match="No space left") as caught:
            write()
        assert caught.value.errno == errno.ENOSPC
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert files(tmp_path) == {"run", *(f"run/{name}" for name in files(run))}, (
        "no new folder, no temporary file"
    )


def test_rows_have_a_fingerprint_of_units_labels_and_order() -> None:
    import numpy as np

    rows = [LabelledUnits(np.array([1, 2]), 0), LabelledUnits(np.array([3]), 1)]
    assert rows_fingerprint(rows) == rows_fingerprint(list(rows))
    others = [
        rows[::-1],
        [rows[0]],
        [LabelledUnits(np.array([1, 2]), 1), rows[1]],
        [LabelledUnits(np.array([1]), 0), LabelledUnits(np.array([2, 3]), 1)],
    ]
    assert len({rows_fingerprint(other) for other in [rows, *others]}) == 5
    spoken = [LabelledUnits(np.array([[1, 4, f0], [2, 3, 0.0]]), 0) for f0 in (0.0, 0.1)]
    assert len({rows_fingerprint([row]) for row in [rows[0], *spoken]}) == 3
