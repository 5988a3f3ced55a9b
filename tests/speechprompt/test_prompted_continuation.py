"""A prompt trained to continue: what it is trained on, that it steers, and that its run comes back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import continuation_table
from speechprompt.cli import run as run_command_line
from speechprompt.generate.continuation import continue_speech
from speechprompt.generate.continuation_run import (
    ContinuationConfig,
    evaluate_continuation,
    load_continuation_run,
    train_continuation,
)
from speechprompt.generate.pair_training import TRAINING
from speechprompt.generate.prompted_continuation import (
    IGNORED,
    ContinuationBatches,
    ContinuationObjective,
    PromptedContinuation,
    collate_continuations,
    n_given,
)
from speechprompt.lm.gslm import GSLM
from speechprompt.perplexity import sequence_losses
from speechprompt.prompt import make_prompt
from speechprompt.run import load_run
from speechprompt.run_record import RunError
from speechprompt.stack_folder import load_stack
from units.audio import read_audio
from units.errors import InputError

RATIOS = (0.25, 0.5, 0.75)


@pytest.fixture(scope="module")
def continuation_run(speech: Path, tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "continuation"
    command = ["train", "--task", "continuation", "--data", str(speech), "--stack", str(tiny_stack)]
    options = ["--prompt-length", "4", "--max-epochs", "40", "--lr", "0.05", "--out", str(folder)]
    assert run_command_line(command + options) == 0
    return folder


def rows(n: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Units that count up: what follows is known once one unit is."""
    rng = np.random.default_rng(seed)
    return [(np.arange(rng.integers(4, 12)) + rng.integers(20)) % 20 for _ in range(n)]


def test_a_batch_reads_what_follows_the_seed_and_nothing_else(lm: GSLM) -> None:
    batch = collate_continuations([np.array([3, 1, 4, 1, 5]), np.array([9, 2])], [2, 1], lm.vocab)
    encode = lm.vocab.encode
    assert batch.ids_BT[0].tolist() == [lm.vocab.eos, *encode(np.array([3, 1, 4, 1]))]
    assert batch.ids_BT[1].tolist() == [lm.vocab.eos, *encode(np.array([9])), *[lm.vocab.pad] * 3]
    assert batch.target_BR[0].tolist() == encode(np.array([4, 1, 5])).tolist()
    assert batch.target_BR[1].tolist() == [*encode(np.array([2])), IGNORED, IGNORED]
    assert batch.read_BR.tolist() == [[2, 3, 4], [1, 1, 1]]


@pytest.mark.parametrize(("n", "ratio", "given"), [(2, 0.25, 1), (2, 0.99, 1), (10, 0.5, 5), (10, 0.04, 1)])
def test_one_unit_at_least_is_heard_and_one_is_left(n: int, ratio: float, given: int) -> None:
    assert n_given(n, ratio) == given


def test_training_and_validation_count_the_same_units(lm: GSLM) -> None:
    """The batches' loss, of one share and without dropout, is that of `sequence_losses` behind the same prefix."""
    prompted = PromptedContinuation(lm, make_prompt("deep", 3, lm)).eval()
    units = rows()
    objective = ContinuationObjective(
        prompted, units, units, (0.5,), replace(TRAINING, batch_rows=len(units))
    )
    [batch] = objective.batches.epoch(0)
    with torch.no_grad():
        loss = float(objective.loss(prompted(batch), batch))
    given = [n_given(len(row), 0.5) for row in units]
    losses_N, counts_N = sequence_losses(lm, units, given=given, end=False, prefix=prompted.prefix())
    assert loss == pytest.approx(losses_N.sum() / counts_N.sum(), rel=1e-5)
    plain_N, _ = sequence_losses(lm, units, given=given, end=False)
    assert abs(plain_N - losses_N).max() > 1e-3  # the prefix is read


def test_validation_recordings_of_one_unit_are_refused_before_training(lm: GSLM) -> None:
    prompted = PromptedContinuation(lm, make_prompt("deep", 2, lm))
    with pytest.raises(InputError, match="validation recordings of two units or more, got 2 shorter"):
        ContinuationObjective(prompted, rows(), [np.array([3]), np.array([4])], (0.5,), TRAINING)


def test_an_epoch_repeats_itself_from_any_batch_on(lm: GSLM) -> None:
    batches = ContinuationBatches(
        rows(), lm.vocab, RATIOS, batch_tokens=40, max_positions=lm.max_positions, seed=1
    )
    whole = list(batches.epoch(2))
    assert len(whole) == batches.n_batches(2) > 2
    for first, second in zip(whole[2:], batches.epoch(2, 2), strict=True):
        assert torch.equal(first.ids_BT, second.ids_BT) and torch.equal(first.read_BR, second.read_BR)
    assert {len(batch.read_BR[0]) for batch in whole} != {
        len(batch.read_BR[0]) for batch in batches.epoch(3)
    } or any(not torch.equal(a.read_BR, b.read_BR) for a, b in zip(whole, batches.epoch(3), strict=False))
    with pytest.raises(InputError, match="two units or more"):
        ContinuationBatches([np.array([1])], lm.vocab, RATIOS, batch_tokens=40, max_positions=8)


def test_training_moves_the_prompt_alone_and_lowers_the_perplexity(
    continuation_run: Path, tiny_stack: Path
) -> None:
    run = load_continuation_run(continuation_run)
    history = run.history
    assert history[-1]["valid_perplexity"] < history[0]["valid_perplexity"]
    assert run.stack.lm.fingerprint() == load_stack(tiny_stack).lm.fingerprint() == run.record.lm_fingerprint
    before = make_prompt("deep", 4, run.stack.lm, seed=run.config.seed)
    for name, parameter in run.prompted.prompt.named_parameters():
        assert not torch.equal(parameter, before.get_parameter(name)), name
    assert run.record.trainable_parameters == 2 * run.stack.lm.n_layers * 4 * run.stack.lm.d_model
    assert run.record.metrics["valid"]["perplexity"] == pytest.approx(
        min(row["valid_perplexity"] for row in history)
    )


def test_the_prompt_steers_what_is_said_offline_and_in_a_stream(
    continuation_run: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_continuation_run(continuation_run)
    audio = sorted(speech.glob("*.wav"))[0]
    wave = read_audio(audio)
    given = {"seed_ratio": 0.5, "length_s": 0.6}
    prompted = continue_speech(run.stack, wave, prefix=run.prompted.prefix(), **given)
    plain = continue_speech(run.stack, wave, **given)
    assert prompted.n_seed_units == plain.n_seed_units
    assert prompted.units.units.tolist() != plain.units.units.tolist()
    command = ["continue", str(audio), "--run", str(continuation_run), "--seed-ratio", "0.5"]
    files = [tmp_path / "offline.wav", tmp_path / "stream.wav"]
    for file, extra in zip(files, ([], ["--stream"]), strict=True):
        assert run_command_line([*command, "--length-s", "0.6", *extra, "--out", str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["units"] == prompted.units.units.tolist()
    assert files[0].read_bytes() == files[1].read_bytes()


def test_evaluation_and_table_show_it_beside_the_plain_model(
    continuation_run: Path, tiny_stack: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["evaluate", str(continuation_run), "--split", "train", "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)
    assert set(measures) == {"n", "seed_0.25", "seed_0.5", "seed_0.75"}
    for name in ("seed_0.25", "seed_0.5", "seed_0.75"):
        of = measures[name]
        assert of["perplexity"] < of["plain_perplexity"]  # it was trained on these
        low, high = of["perplexity_interval_95"]
        assert low <= of["perplexity"] <= high
    assert load_continuation_run(continuation_run).record.metrics["train"] == measures
    assert run_command_line(["evaluate", str(continuation_run), "--split", "valid"]) == 0
    assert "without the prompt" in capsys.readouterr().out
    other = tmp_path / "other_lm"
    lm = load_stack(tiny_stack).lm
    assert isinstance(lm, GSLM)
    GSLM(lm.config, lm.vocab).initialise(5).save(other)
    continuation_table.main(
        speech,
        other,
        str(tiny_stack),
        run=continuation_run,
        split="train",
        seed_ratios="0.5",
        out=tmp_path / "table",
    )
    table = json.loads((tmp_path / "table" / "table.json").read_text())["measures"]["0.5"]
    assert list(table) == ["real", "continuation", "continuation, prompted", "shuffled"]
    assert table["continuation"] != table["continuation, prompted"]


def test_what_does_not_fit_is_refused(
    continuation_run: Path, word_run: Path, speech: Path, seq2seq_stack: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="task continuation"):
        load_continuation_run(word_run)
    with pytest.raises(RunError, match="load_continuation_run"):
        load_run(continuation_run)
    with pytest.raises(InputError, match="between 0 and 1"):
        ContinuationConfig(seed_ratios=(0.5, 1.0))
    mbart = replace(load_stack(seq2seq_stack), lm_part={"family": "unit_mbart", "folder": "unit_mbart"})
    with pytest.raises(InputError, match="from left to right"):
        train_continuation(stack=mbart, data=speech, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    command = ["train", "--task", "continuation", "--data", str(speech), "--out", str(tmp_path / "run")]
    for option in (["--prompt", "input"], ["--speeds", "0.9,1.0"]):
        assert run_command_line([*command, *option]) == 2
    assert run_command_line(["evaluate", str(continuation_run), "--judge", "pocketsphinx"]) == 2
    with pytest.raises(InputError, match="split"):
        evaluate_continuation(continuation_run, "dev")


def test_an_interrupted_training_ends_in_the_same_bits(
    speech: Path, tiny_stack: Path, tmp_path: Path
) -> None:
    stack = load_stack(tiny_stack)

    def trained(out: Path) -> dict[str, torch.Tensor]:
        config, training = ContinuationConfig(length=2), replace(TRAINING, max_epochs=2)
        run = train_continuation(stack=stack, data=speech, out=out, config=config, training=training)
        return run.prompted.trainable_state()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    whole = trained(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("speechprompt.trainer.finish_run", stop)
        trained(tmp_path / "cut")
    again = trained(tmp_path / "cut")
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name
