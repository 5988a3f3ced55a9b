"""pGSLM converted from checkpoints of the reference: its batches, outputs, losses and continuations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechprompt.cli import run
from speechprompt.convert.pgslm import convert
from speechprompt.fairseq import read_fairseq
from speechprompt.lm import load_lm
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_decode import continue_streams
from speechprompt.lm.pgslm_streams import StreamBatch, realigned, stream_batch, utterance_streams
from speechprompt.lm.prosody import F0Statistics, f0_bins, normalized_f0
from units.safe_pickle import read_torch_file

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden"))
VARIANTS = sorted(file.parent.name for file in GOLDEN.glob("pgslm/*/spec.json")) or ["discrete"]


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / "pgslm" / request.param


@pytest.fixture(scope="module")
def data(variant: Path) -> Any:
    return np.load(variant / "golden.npz")


@pytest.fixture(scope="module")
def spec(variant: Path) -> dict[str, Any]:
    return json.loads((variant / "spec.json").read_text())["config"]


@pytest.fixture(scope="module")
def lm(variant: Path, tmp_path_factory: pytest.TempPathFactory) -> PGSLM:
    """Converted, written, and read back."""
    folder = tmp_path_factory.mktemp("pgslm") / "lm"
    checkpoint = read_fairseq(variant / "checkpoint.pt")
    convert(checkpoint, folder, data_config=variant / "data_config.json")
    lm = load_lm(folder)
    assert isinstance(lm, PGSLM)
    lm.freeze()
    return lm


@pytest.fixture(scope="module")
def batch(lm: PGSLM, variant: Path) -> StreamBatch:
    """From the reference's files of units, durations and F0, which hold all utterances end to end."""
    manifest = str(variant / "data" / "valid.txt")
    tokens, durations, f0 = (np.load(f"{manifest}.{kind}.npy") for kind in ("code", "dur", "f0"))
    speakers = Path(f"{manifest}.speaker.txt").read_text().split()
    statistics = {
        speaker: F0Statistics(s["f0_mean"], s["f0_std"], s["logf0_mean"], s["logf0_std"])
        for speaker, s in read_torch_file(Path(f"{manifest}.f0_stat.pt")).items()
    }
    rows, start = [], 0
    for length, speaker in zip(Path(f"{manifest}.leng.txt").read_text().split(), speakers, strict=True):
        part = slice(start, start := start + int(length))
        pitch: Any = normalized_f0(f0[part], lm.prosody, statistics[speaker])
        if lm.prosody.discrete_f0:
            assert lm.prosody.f0_edges is not None
            pitch = f0_bins(pitch, np.array(lm.prosody.f0_edges))
        rows.append(utterance_streams(tokens[part], durations[part], pitch, lm.vocab, lm.prosody))
    return stream_batch(rows, lm.vocab, lm.prosody)


def test_the_conversion_says_what_it_left_out(
    variant: Path, data: Any, spec: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = read_fairseq(variant / "checkpoint.pt")
    converted = convert(checkpoint, tmp_path / "lm")
    assert converted.dictionary_size == spec["channel_sizes"][0] == data["out_token"].shape[-1]
    assert converted.dimensions["n_layers"] == spec["layers"]
    assert "decoder.output_projection.weight" in converted.ignored
    left_out = sum(checkpoint.model[name].numel() for name in converted.ignored)
    assert converted.n_parameters == sum(t.numel() for t in checkpoint.model.values()) - left_out


def test_the_command_knows_the_file_for_what_it_is(
    variant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(variant / "checkpoint.pt"), "--to", str(tmp_path / "lm")]) == 0
    assert "pgslm" in capsys.readouterr().out
    assert isinstance(load_lm(tmp_path / "lm"), PGSLM)


def test_configuration_is_the_spec_s(lm: PGSLM, spec: dict[str, Any]) -> None:
    prosody = lm.prosody
    assert list(lm.channels) == spec["channel_sizes"]
    assert (prosody.discrete_duration, prosody.discrete_f0) == (
        spec["discrete_duration"],
        spec["discrete_f0"],
    )
    assert prosody.duration_input is not spec["ignore_duration_input"]
    assert f"{prosody.duration_delay},{prosody.f0_delay}" == spec["stream_shifts"]
    assert lm.max_positions == spec["max_target_positions"]


def same(got: Tensor, expected: np.ndarray) -> None:
    assert got.numpy().dtype == expected.dtype
    torch.testing.assert_close(got, torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_batches_are_the_reference_s(batch: StreamBatch, data: Any) -> None:
    same(batch.lengths, data["in_src_lengths"])
    for part, names in (
        (batch.source, ("in_src_tokens", "in_dur_src", "in_f0_src")),
        (batch.target, ("in_target", "in_dur_target", "in_f0_target")),
        (batch.masked, ("in_mask", "in_dur_mask", "in_f0_mask")),
    ):
        for stream, name in zip((part.tokens, part.durations, part.f0), names, strict=True):
            same(stream, data[name])


def test_outputs_and_losses_are_the_reference_s(lm: PGSLM, batch: StreamBatch, data: Any) -> None:
    real_BT = batch.source.tokens.ne(lm.vocab.pad)
    logits = lm.read(batch.source)
    for got, name in ((logits.tokens, "token"), (logits.durations, "duration"), (logits.f0, "f0")):
        expected = torch.from_numpy(data[f"out_{name}"])
        torch.testing.assert_close(got[real_BT], expected[real_BT], atol=1e-4, rtol=1e-4)
    losses = lm.losses(batch)
    parts = torch.stack([losses.tokens, losses.durations, losses.f0]).double()
    torch.testing.assert_close(parts, torch.from_numpy(data["loss_parts"]), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.weighted(), torch.from_numpy(data["loss"])[()], rtol=1e-5, atol=0)
    assert batch.n_tokens == int(data["sample_size"])


def test_as_a_unit_language_model_it_begins_rows_as_it_was_trained(
    lm: PGSLM, batch: StreamBatch, data: Any
) -> None:
    """Rows of every family begin with `</s>` outside of the model; this one was trained on `<s>` there."""
    tokens_BT = batch.source.tokens
    assert tokens_BT[:, 0].eq(lm.vocab.bos).all() and not tokens_BT[:, 1:].eq(lm.vocab.bos).any()
    ids_BT = tokens_BT.clone()
    ids_BT[:, 0] = lm.vocab.eos
    zeros_BT = torch.zeros_like(tokens_BT)
    torch.testing.assert_close(
        lm.embed(ids_BT), lm.embed(tokens_BT, durations_BT=zeros_BT, f0_BT=zeros_BT), rtol=0, atol=0
    )
    if not (
        lm.prosody.duration_input or lm.prosody.f0_input
    ):  # then units are all that the reference read, too
        real_BT = tokens_BT.ne(lm.vocab.pad)
        expected = torch.from_numpy(data["out_token"])
        got = lm.logits(lm(lm.embed(ids_BT)))
        torch.testing.assert_close(got[real_BT], expected[real_BT], atol=1e-4, rtol=1e-4)


def test_greedy_continuations_are_the_reference_s(lm: PGSLM, batch: StreamBatch, data: Any) -> None:
    n_rows, n_given = data["cont_prefix_tokens"].shape
    n_steps = data["cont_tokens"].shape[1] - n_given
    given = batch.source.columns(None, n_given)
    first = type(given)(given.tokens[:n_rows], given.durations[:n_rows], given.f0[:n_rows])
    assert first.tokens.tolist() == data["cont_prefix_tokens"].tolist()
    whole = continue_streams(lm, first, n_steps)
    for streams, name in ((whole, "cont"), (realigned(whole, lm.prosody), "cont_realigned")):
        np.testing.assert_array_equal(streams.tokens, data[f"{name}_tokens"])
        np.testing.assert_array_equal(streams.durations, data[f"{name}_dur"])
        np.testing.assert_allclose(streams.f0, data[f"{name}_f0"], atol=1e-4, rtol=1e-4)
