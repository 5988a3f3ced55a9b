"""Prompts trained here, exported to SpeechPrompt v2's checkpoint format and read back, by commands and by functions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from speechprompt.batch import BucketedBatches
from speechprompt.cli import run as run_command_line
from speechprompt.convert.prompt_export import export_v2
from speechprompt.convert.prompts import HIDDEN, LINEAR, N_SPECIALS, read_prompt
from speechprompt.fairseq import read_fairseq
from speechprompt.prompted import PromptConfig, build_prompted
from speechprompt.run import Run, load_run
from speechprompt.run_record import RECORD_FILE
from speechprompt.task_units import labelled_units
from speechprompt.train_config import TrainConfig
from speechprompt.training import train
from tasks import get_task
from units.errors import InputError


@pytest.fixture(scope="module")
def runs(
    two_words: Path, word_run: Path, tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Run folders trained by the command line, by what their verbalizer reads; "default" says nothing about it."""
    folder = tmp_path_factory.mktemp("runs") / "logits"
    command = ["train", "--task", "csv_classification", "--data", str(two_words), "--stack", str(tiny_stack)]
    command += ["--out", str(folder), "--max-epochs", "2", "--speeds", "1.0", "--read", "logits"]
    assert run_command_line(command) == 0
    return {"default": word_run, "logits": folder}


@pytest.mark.parametrize("which", ["default", "logits"])
def test_a_trained_prompt_goes_out_and_comes_back_by_commands(
    which: str,
    runs: dict[str, Path],
    tiny_stack: Path,
    two_words: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, file, back = runs[which], tmp_path / "v2" / "checkpoint_best.pt", tmp_path / "back"
    assert run_command_line(["convert", str(run), "--to", str(file)]) == 0
    assert f"read {'logits' if which == 'logits' else 'hidden'}" in capsys.readouterr().out
    assert run_command_line(["convert", str(file), "--to", str(back), "--stack", str(tiny_stack)]) == 0
    capsys.readouterr()
    before, after = load_run(run), load_run(back)
    assert_trained(before)
    assert_same_prompt(before, after)
    assert after.record.training == {}  # the file says nothing about it
    clips = [str(clip) for clip in sorted(two_words.iterdir()) if clip.suffix != ".csv"][:3]
    said = []
    for folder in (run, back):
        assert run_command_line(["predict", str(folder), *clips, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] and len(said[0]["predictions"]) == len(clips) == 3


@pytest.mark.parametrize(
    "options", [{}, {"read": "logits"}, {"verbalizer": "frequency"}, {"prompt": "input"}]
)
def test_a_trained_prompt_goes_out_and_comes_back_by_functions(
    options: dict[str, Any], two_words: Path, tiny_stack: Path, tmp_path: Path
) -> None:
    config = TrainConfig(max_epochs=1, speed_perturbation=())
    run = train(
        "csv_classification",
        tiny_stack,
        tmp_path / "run",
        data=two_words,
        prompt_length=3,
        config=config,
        **options,
    )
    assert run.record.prompt["read"] == options.get("read", "hidden")
    assert_trained(run)
    file = export_v2(run, tmp_path / "v2" / "checkpoint_best.pt")
    imported = read_prompt(read_fairseq(file), run.stack.lm)
    assert imported.labels == run.record.labels
    assert (LINEAR in read_fairseq(file).model) == (options.get("read") == "logits")
    assert (HIDDEN in read_fairseq(file).model) == (
        options.get("read", "hidden") == "hidden" and "verbalizer" not in options
    )
    state = run.prompted.trainable_state()
    assert imported.state.keys() == state.keys()
    for name, tensor in state.items():
        assert imported.state[name].dtype == tensor.dtype and torch.equal(imported.state[name], tensor), name


def test_the_highest_of_all_scores_is_our_label(runs: dict[str, Path], tmp_path: Path) -> None:
    """SpeechPrompt v2 takes the highest of the scores of special tokens and labels, and subtracts 4."""
    run = load_run(runs["logits"])
    rows = labelled_units(get_task(run.record.task, run.record.data), "test", run.stack)
    (batch,) = BucketedBatches(rows, run.stack.lm.vocab, batch_tokens=1 << 20, max_positions=1024).epoch(0)
    with torch.no_grad():
        hidden_BSD, column_BT = run.prompted.hidden(batch.ids_BT)
        last_B = column_BT.gather(1, (batch.lengths_B - 1)[:, None])[:, 0]
        logits_BV = run.stack.lm.logits(hidden_BSD[torch.arange(len(last_B)), last_B])
        common_V = logits_BV.mean(0)
        run.prompted.verbalizer.weight -= 10 * common_V / common_V.norm() ** 2
        labels_BN = run.prompted.label_logits(batch)
    assert labels_BN.max() < 0  # where rows of zeros would win
    linear = read_fairseq(export_v2(run, tmp_path / "v2" / "checkpoint_best.pt")).model[LINEAR]
    assert len(linear) == N_SPECIALS + len(run.record.labels)
    assert torch.equal(F.linear(logits_BV, linear).argmax(1) - N_SPECIALS, labels_BN.argmax(1))


def test_what_v2_has_no_place_for_is_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(runs["logits"])
    n_symbols = len(run.stack.lm.vocab.symbols)
    many = replace(run, record=replace(run.record, labels=tuple(map(str, range(n_symbols + 1)))))
    with pytest.raises(InputError, match=f"at most {n_symbols} labels"):
        export_v2(many, tmp_path / "many.pt")
    monkeypatch.setattr(run.stack.lm, "family", "unit_mbart")
    with pytest.raises(InputError, match="on GSLM"):
        export_v2(run, tmp_path / "other.pt")
    assert not list(tmp_path.iterdir())


def test_an_unknown_reading_is_refused(two_words: Path, tiny_stack: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="logits or hidden"):
        train("csv_classification", tiny_stack, tmp_path / "run", data=two_words, read="states")
    assert not (tmp_path / "run" / RECORD_FILE).exists()


def assert_trained(run: Run) -> None:
    """Training has moved every trained tensor from where it began."""
    config = PromptConfig(**run.record.prompt)
    if config.verbalizer == "frequency":
        config = replace(config, verbalizer="random")  # its first values need no data
    first = build_prompted(run.stack.lm, len(run.record.labels), config).trainable_state()
    for name, tensor in run.prompted.trainable_state().items():
        assert name == "verbalizer.ids" or not torch.equal(tensor, first[name]), name


def assert_same_prompt(one: Run, other: Run) -> None:
    """Equal tensors, labels and kind."""
    assert one.record.labels == other.record.labels
    for name in ("kind", "length", "verbalizer", "read"):
        assert one.record.prompt[name] == other.record.prompt[name]
    state = other.prompted.trainable_state()
    assert state.keys() == one.prompted.trainable_state().keys()
    for name, tensor in one.prompted.trainable_state().items():
        assert torch.equal(state[name], tensor), name
