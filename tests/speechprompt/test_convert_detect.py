"""Which kind `speechprompt convert` takes a file for: every row of the table, and what is said of files of none."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from speechprompt.cli import run as run_command_line
from speechprompt.convert.detect import KINDS, ConvertOptions, convert_file
from speechprompt.fairseq import CheckpointError
from units.errors import InputError
from units.safe_pickle import read_torch_file

KMEANS = "kmeans"
NAMES = [*(kind.name for kind in KINDS), KMEANS]
W = torch.zeros(2, 2)
HUBERT = "feature_extractor.conv_layers.0.0.weight"
PROMPT = {"decoder.prefix_embed_prompts.weight": W, "decoder.sep_embed.weight": W}
DECODER = {"decoder.embed_tokens.weight": W, "decoder.layers.0.fc1.weight": W}
ON_STACK = ConvertOptions(stack="mini")

# What a file holds, the options it is given with, and the kind that it is then.
CONTENTS: dict[str, tuple[dict[str, Any], ConvertOptions, str]] = {
    "vocoder": ({"generator": {"dict.weight": W}}, ConvertOptions(), "vocoder"),
    "cpc": ({"config": {}, "weights": {}, "best": {}}, ConvertOptions(), "cpc"),
    "hubert": ({"model": {HUBERT: W}}, ConvertOptions(), "hubert"),
    "hubert fine-tuned": ({"model": {f"w2v_encoder.w2v_model.{HUBERT}": W}}, ConvertOptions(), "hubert"),
    "prompt": ({"model": PROMPT}, ConvertOptions(), "prompt"),
    "prompt without separator": ({"model": dict([*PROMPT.items()][:1])}, ON_STACK, "prompt"),
    "prompt beside its language model": ({"model": PROMPT | DECODER}, ON_STACK, "prompt"),
    "the language model beside a prompt": ({"model": PROMPT | DECODER}, ConvertOptions(), "gslm"),
    "unit mBART": ({"model": DECODER | {"encoder.embed_tokens.weight": W}}, ConvertOptions(), "unit_mbart"),
    "pGSLM with classes": (
        {"model": DECODER | {"decoder.embed_other_list.0.weight": W}},
        ConvertOptions(),
        "pgslm",
    ),
    "pGSLM with values": (
        {"model": DECODER | {"decoder.proj_other_list.0.weight": W}},
        ConvertOptions(),
        "pgslm",
    ),
    "GSLM": ({"model": DECODER}, ConvertOptions(), "gslm"),
}
# Where the reference data has files of a kind.
GOLDEN = {
    "vocoder": "vocoder/*/model.pt",
    "cpc": "cpc/checkpoint.pt",
    "hubert": "hubert/*/checkpoint.pt",
    "prompt": "speechprompt_v*/*/checkpoint_best.pt",
    "unit_mbart": "unit_mbart/checkpoint.pt",
    "pgslm": "pgslm/*/checkpoint.pt",
    "gslm": "ulm/*.pt",
    KMEANS: "kmeans/*.bin",
}
# What a kind needs that its file does not say: the end of the sentence that asks for it.
NEEDS = {
    "vocoder": "config.json",
    "prompt": "--stack",
    "unit_mbart": "dict.txt",
    "gslm": "dict.txt",
    KMEANS: "--encoder and --layer",
}


def kind_of(content: Any, options: ConvertOptions) -> str:
    return next(kind.name for kind in KINDS if kind.matches(content, options))


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped_arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, features=np.zeros(3))
    return buffer.getvalue()


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "expected a file written by torch"),
    "text": (lambda: b"not a checkpoint\n" * 20, "expected a file written by torch"),
    "a page instead of the file": (lambda: b"<!DOCTYPE html><html>", "expected a file written by torch"),
    "JSON": (lambda: json.dumps({"model": {}}).encode(), "expected a file written by torch"),
    "a WAV file": (lambda: b"RIFF\x24\x00\x00\x00WAVEfmt ", "expected a file written by torch"),
    "our own format": (lambda: save({"w": W}), "safetensors, which need no conversion"),
    "NumPy's arrays": (zipped_arrays, "expected one data.pkl as torch writes it"),
    "a list": (lambda: saved([W]), "expected a checkpoint of a known kind"),
    "a tensor": (lambda: saved(W), "expected a checkpoint of a known kind"),
    "another model": (lambda: saved({"state_dict": {"w": W}}), "expected a checkpoint of a known kind"),
    "another model of fairseq": (lambda: saved({"model": {"w": W}}), "expected a checkpoint of a known kind"),
    "a model that is none": (lambda: saved({"model": [W]}), "expected a checkpoint of a known kind"),
    "a pickled dict": (lambda: pickle.dumps({"a": 1}, 2), "expected a KMeans or MiniBatchKMeans"),
    "half a file": (lambda: saved({"model": DECODER})[:-200], "expected the end of a zip file"),
}


def test_the_tables_here_have_every_kind() -> None:
    assert {kind for _, _, kind in CONTENTS.values()} | {KMEANS} == set(NAMES) == set(GOLDEN)


@pytest.mark.parametrize("case", CONTENTS)
def test_a_file_is_taken_for_its_kind(case: str, tmp_path: Path) -> None:
    content, options, expected = CONTENTS[case]
    torch.save(content, tmp_path / "checkpoint.pt")
    assert kind_of(read_torch_file(tmp_path / "checkpoint.pt"), options) == expected
    torch.save(content, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    assert kind_of(read_torch_file(tmp_path / "legacy.pt"), options) == expected
    for file in sorted(tmp_path.iterdir()):  # and refused as a bad one of its kind: it holds too little
        with pytest.raises(InputError) as caught:
            convert_file(file, tmp_path / "out", options)
        assert "\n" not in str(caught.value) and "known kind" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [name for name in NAMES if name != KMEANS])
def test_golden_files_are_taken_for_their_kind(kind: str, golden: Path) -> None:
    files = sorted(golden.glob(GOLDEN[kind]))
    if not files:
        pytest.skip(f"no golden file of {kind}")
    for file in files:
        assert kind_of(read_torch_file(file), ConvertOptions()) == kind, file


@pytest.mark.parametrize("kind", NEEDS)
def test_golden_files_without_what_they_need_say_what(
    kind: str, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(golden.glob(GOLDEN[kind]))
    if not files:
        pytest.skip(f"no golden file of {kind}")
    alone = tmp_path / files[0].name
    alone.write_bytes(files[0].read_bytes())
    assert_one_line(alone, tmp_path / "out", NEEDS[kind], capsys)


@pytest.mark.parametrize("case", WRONG)
def test_a_file_of_no_kind_is_refused_in_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = WRONG[case]
    file = tmp_path / "file"
    file.write_bytes(content())
    assert_one_line(file, tmp_path / "out", expected, capsys)


def test_the_refusal_names_every_kind(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError) as caught:
        convert_file(tmp_path / "other.pt", tmp_path / "out")
    assert all(name in str(caught.value) for name in NAMES) and "epoch" in str(caught.value)


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_no_file_at_all_is_refused_in_one_line(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    assert_one_line(tmp_path / what, tmp_path / "out", "expected a checkpoint or a run folder", capsys)


def assert_one_line(file: Path, to: Path, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command refuses a file with one line that names it, or what is missing beside it, and writes nothing."""
    assert run_command_line(["convert", str(file), "--to", str(to)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert str(file.parent) in captured.err and "expected" in captured.err and expected in captured.err
    assert not to.exists()
