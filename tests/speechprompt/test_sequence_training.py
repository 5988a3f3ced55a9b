"""Sequence tasks from beginning to end: real units whose label is to be spelled, and runs from audio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.checkpoint import PROMPT_FILE, begin_run, load_prompt
from speechprompt.cli import run as run_command_line
from speechprompt.convert.prompt_export import export_v2
from speechprompt.evaluation import evaluate, predict
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.prompt_config import PromptConfig
from speechprompt.run import Run, load_run
from speechprompt.run_record import RECORD_FILE, RunRecord, read_record
from speechprompt.sequence.answers import say
from speechprompt.sequence.batch import SequenceRow
from speechprompt.sequence.decoding import DecodingConfig, decode_rows
from speechprompt.sequence.objective import SequenceObjective
from speechprompt.sequence.prompted import PromptedSequence, build_sequence
from speechprompt.sequence.symbols import SymbolInventory
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from speechprompt.training import train
from speechprompt.training_log import read_log
from speechprompt.vocab import UnitVocab
from tasks.base import Task, Utterance
from tasks.registry import TASKS, get_task
from tasks.unit_files import read_unit_file
from units.errors import InputError
from units.types import UnitSpec

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEC = UnitSpec("hubert-base-ls960", 6, 100, 50.0, "0" * 12)
EVERYTHING = TrainConfig(
    lr=1e-2,
    max_epochs=4,
    batch_rows=4,
    average_epochs=2,
    unit_dropout=0.1,
    checkpoint_steps=2,
    warmup_steps=3,
)


@pytest.fixture(autouse=True)
def one_thread_and_no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("units.atomic.os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def keywords(shared_data: Path) -> list[Utterance]:
    """Eight real recordings' units (HuBERT, 100 units) of different words, with the word to be spelled."""
    of_word: dict[str, Utterance] = {}
    for utterance in read_unit_file(shared_data / "units" / "hubert100" / "ks_test.jsonl.gz"):
        of_word.setdefault(utterance.target, utterance)
    return list(of_word.values())[:8]


def new_sequence(inventory: SymbolInventory, verbalizer: str = "learnable") -> PromptedSequence:
    config = TransformerConfig(n_layers=2, d_model=64, n_heads=2, d_ffn=128, max_positions=128)
    lm = GSLM(config, UnitVocab.from_n_units(100)).initialise(seed=1)
    trained = PromptConfig(length=20, verbalizer=verbalizer, dropout=0.0, verbalizer_dropout=0.0)
    return build_sequence(lm, len(inventory), trained, unit_counts=np.arange(100))


def rows_of(utterances: list[Utterance], inventory: SymbolInventory) -> list[SequenceRow]:
    return [SequenceRow(u.units, inventory.encode(u.target)) for u in utterances if u.units is not None]


def train_rows(folder: Path, utterances: list[Utterance], config: TrainConfig) -> PromptedSequence:
    inventory = SymbolInventory.from_texts(utterance.target for utterance in utterances)
    sequence, rows = new_sequence(inventory), rows_of(utterances, inventory)
    record = RunRecord(
        task="spelled",
        data=None,
        labels=(),
        stack="none",
        spec=SPEC,
        lm_fingerprint=sequence.lm.fingerprint(),
        prompt={},
        training=config.to_dict(),
        trainable_parameters=sequence.n_trainable,
        frozen_parameters=sequence.n_frozen,
        symbols=inventory.symbols,
    )
    begin_run(folder, record)
    train_module(SequenceObjective(sequence, rows, rows, config), config, folder)
    return sequence


def test_a_tiny_model_learns_to_spell_a_few_real_recordings(
    tmp_path: Path, keywords: list[Utterance]
) -> None:
    config = TrainConfig(
        lr=2e-2,
        schedule="constant",
        batch_rows=32,
        max_epochs=50,
        patience=50,
        average_epochs=1,
        label_smoothing=0.0,
        unit_dropout=0.0,
        mixed_precision="no",
    )
    sequence = train_rows(tmp_path / "run", keywords, config)
    inventory = SymbolInventory(read_record(tmp_path / "run").symbols)
    units = [utterance.units for utterance in keywords if utterance.units is not None]
    for decoding in (DecodingConfig(), DecodingConfig(beam=4)):
        found = decode_rows(sequence, units, decoding, longest_target=9)
        assert [inventory.decode(row[0].ids[:-1]) for row in found] == [u.target for u in keywords]
    history = read_log(tmp_path / "run")
    assert max(row["valid_symbol_accuracy"] for row in history) == 1.0
    assert read_record(tmp_path / "run").metrics["valid"]["symbol_accuracy"] == 1.0
    # Another voice saying one of these words is spelled with symbols alone, and ends.
    [[other]] = decode_rows(sequence, [units[0][::-1].copy()], DecodingConfig(), longest_target=9)
    assert other.ids[-1] == sequence.end
    assert len(other.ids) <= 13


def test_training_moves_every_tensor_but_the_language_model(
    tmp_path: Path, keywords: list[Utterance]
) -> None:
    inventory = SymbolInventory.from_texts(utterance.target for utterance in keywords)
    before = new_sequence(inventory)
    fingerprint, first = before.lm.fingerprint(), before.trainable_state()
    sequence = train_rows(tmp_path / "run", keywords, replace(EVERYTHING, max_epochs=1, average_epochs=1))
    assert sequence.lm.fingerprint() == fingerprint
    after = load_prompt(tmp_path / "run", fingerprint)
    assert after.keys() == first.keys() == {"prompt.key", "prompt.value", "separator", "verbalizer.weight"}
    assert all((after[name] != first[name]).any() for name in first)


def test_an_interrupted_training_continues_to_the_bit(
    tmp_path: Path, keywords: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechprompt import checkpoint

    train_rows(tmp_path / "whole", keywords, EVERYTHING)
    for n_saves in (1, 4):
        counts, run = iter(range(n_saves)), tmp_path / str(n_saves)

        def save_state(folder: Path, state: dict, counts: object = counts) -> None:
            if next(counts, None) is None:  # type: ignore[call-overload]
                raise KeyboardInterrupt
            checkpoint.save_state(folder, state)

        with monkeypatch.context() as patch:
            patch.setattr("speechprompt.trainer.save_state", save_state)
            with pytest.raises(KeyboardInterrupt):
                train_rows(run, keywords, EVERYTHING)
        train_rows(run, keywords, EVERYTHING)
        assert (tmp_path / "whole" / PROMPT_FILE).read_bytes() == (run / PROMPT_FILE).read_bytes()
        for one, other in zip(read_log(tmp_path / "whole"), read_log(run), strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


def spelled_digits(root: Path | None = None) -> Task:
    """The bundled digits as a sequence task: few recordings, their names to be spelled; "one" is new in valid."""
    digits = get_task("spoken_digits")
    splits = {}
    for split, allowed in (("train", "2456"), ("valid", "126"), ("test", "246")):
        chosen = [u for u in digits.utterances(split) if u.target in allowed][::8]
        splits[split] = [replace(u, target=WORDS[int(u.target)]) for u in chosen]
    return Task("spelled_digits", "sequence", (), splits, ("cer", "wer"), root=digits.root)


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(max_epochs=2, speed_perturbation=(), label_smoothing=0.0)
    with pytest.warns(UserWarning, match="no training text holds"):
        return train(spelled_digits(), stack, folder, prompt_length=8, verbalizer="frequency", config=config)


def test_the_record_names_the_symbols(run: Run) -> None:
    record = json.loads((run.folder / RECORD_FILE).read_text(encoding="utf-8"))
    assert sorted(record["symbols"]) == sorted(set("twofourfivesix"))
    assert record["tokens"] == "characters"
    assert record["longest_target"] == 4
    assert record["labels"] == []
    assert record["metrics"]["valid"].keys() == {"loss", "symbol_accuracy"}
    assert run.history[0]["valid_symbol_accuracy"] >= 0


def test_a_run_is_opened_measured_and_says_what_it_hears(run: Run, stack: Stack) -> None:
    task = spelled_digits()
    report = evaluate(load_run(run.folder, stack=stack), "valid", task=task, decoding=DecodingConfig(beam=2))
    assert report["n"] == len(task.utterances("valid"))
    assert report["cer"] >= 0
    assert report["cer_interval_95"][0] <= report["cer"] <= report["cer_interval_95"][1]
    n_ones = sum(utterance.target == "one" for utterance in task.utterances("valid"))
    assert report["unknown_symbols"] == n_ones > 0
    assert read_record(run.folder).metrics["valid"]["wer"] == report["wer"]
    paths = [u.path for u in task.utterances("test")[:3] if u.path is not None]
    said = predict(run, paths, decoding=DecodingConfig(beam=3, max_length=5))
    for prediction in said:
        assert set(prediction.label) <= set(run.record.symbols)
        assert len(prediction.label) <= 5
        assert 0 < prediction.probability <= 1
        assert 1 <= len(prediction.top) <= 3
        assert prediction.top[0] == (prediction.label, prediction.probability)
    units = [sequence.units for sequence in stack.quantize(paths)]
    assert [row[0].text for row in say(run, units)] == [p.label for p in predict(run, paths)]


def test_what_does_not_fit_is_refused(run: Run, stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind of task"):
        evaluate(run, task=get_task("spoken_digits"))
    with pytest.raises(InputError, match="sequence task"):
        export_v2(run, tmp_path / "prompt.pt")
    with pytest.raises(InputError, match="n_separators 1"):
        train(spelled_digits(), stack, tmp_path / "a", prompt_config=PromptConfig(n_separators=2))
    with pytest.raises(InputError, match="slots joint"):
        train(spelled_digits(), stack, tmp_path / "a", prompt_config=PromptConfig(slots="parallel"))
    with pytest.raises(InputError, match="slots=joint"):
        train("spoken_digits", stack, tmp_path / "a", prompt_config=PromptConfig(slots="parallel"))
    silent = {split: [replace(u, target="") for u in us] for split, us in spelled_digits().splits.items()}
    with pytest.raises(InputError, match="at least one"):
        train(replace(spelled_digits(), splits=silent), stack, tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_the_command_line_trains_measures_and_writes_down(
    tmp_path: Path, tiny_stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TASKS, "spelled_digits", spelled_digits)
    folder = tmp_path / "run"
    command = ["train", "--task", "spelled_digits", "--stack", str(tiny_stack), "--out", str(folder)]
    assert run_command_line([*command, "--max-epochs", "1", "--speeds", "1.0"]) == 0
    assert "of the validation split's symbols" in capsys.readouterr().out
    assert run_command_line(["evaluate", str(folder), "--beam", "2", "--max-length", "6"]) == 0
    assert "cer " in capsys.readouterr().out
    path = spelled_digits().utterances("test")[0].path
    assert run_command_line(["predict", str(folder), str(path), "--json"]) == 0
    [prediction] = json.loads(capsys.readouterr().out)["predictions"]
    assert set(prediction["label"]) <= set(read_record(folder).symbols)
    assert run_command_line(["predict", str(folder), str(path), "--length-factor", "-1"]) != 0
