"""`speechprompt convert`: what kind of file it sees, what it prints, what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.cluster import KMeans

from speechprompt.cli import run as run_command_line
from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.run import load_run
from units.kmeans import load_codebook
from units.store import UnitRow, UnitStore, UnitStoreWriter
from units.types import UnitSpec


def test_golden_language_model_by_the_command_line(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "lm"
    assert run_command_line(["convert", str(golden / "ulm" / "cfg_dict.pt"), "--to", str(to)]) == 0
    text = capsys.readouterr().out
    lm = load_lm(to)
    assert f"gslm, {lm.n_parameters():,} parameters" in text and f"{len(lm.vocab)} tokens" in text
    assert "decoder.output_projection.weight: " in text
    # A second time the folder is there.
    assert run_command_line(["convert", str(golden / "ulm" / "cfg_dict.pt"), "--to", str(to)]) == 2
    assert "choose another --to" in capsys.readouterr().err


def test_the_published_size_of_gslm() -> None:
    """12 layers, 1024 wide, 104 symbols: 151,263,232 parameters, counted without taking their memory."""
    from speechprompt.lm.transformer import TransformerConfig
    from speechprompt.vocab import UnitVocab

    with torch.device("meta"):
        lm = GSLM(TransformerConfig(12, 1024, 16, 4096), UnitVocab.from_n_units(100))
    assert lm.n_parameters() == 151_263_232


def test_a_codebook_then_a_language_model_with_its_units_measured(
    tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import joblib

    joblib.dump(
        KMeans(100, n_init=1).fit(np.random.default_rng(0).normal(size=(200, 4))), tmp_path / "km.bin"
    )
    command = ["convert", str(tmp_path / "km.bin"), "--to", str(tmp_path / "km"), "--encoder", "hubert-base"]
    assert run_command_line(command) == 2
    assert "--layer" in capsys.readouterr().err
    assert run_command_line([*command, "--layer", "6", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    codebook = tmp_path / "km" / "codebook.safetensors"
    spec = load_codebook(codebook)[1]
    assert printed["spec"] == spec.to_dict() and spec.layer == 6 and spec.n_units == 100

    lm = load_lm(tiny_stack / "lm")
    assert isinstance(lm, GSLM)
    file = tmp_path / "official" / "checkpoint_best.pt"
    file.parent.mkdir()
    settings = {"decoder_attention_heads": lm.n_heads, "tokens_per_sample": lm.max_positions}
    model = {f"decoder.{name}": tensor for name, tensor in lm.state_dict().items()}
    torch.save({"model": model, "cfg": {"model": settings}}, file)
    (file.parent / "dict.txt").write_text("".join(f"{s} 1\n" for s in lm.vocab.symbols), encoding="utf-8")
    write_store(tmp_path / "units", spec)
    command = ["convert", str(file), "--codebook", str(codebook), "--units", str(tmp_path / "units")]
    assert run_command_line([*command, "--to", str(tmp_path / "a"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["spec"] == spec.to_dict()
    assert json.loads((tmp_path / "a" / "config.json").read_text(encoding="utf-8"))["spec"] == spec.to_dict()
    # Random weights know less than frequencies; the text says so.
    assert printed["perplexity"]["lm"] > printed["perplexity"]["unigram"] > 1
    assert run_command_line([*command, "--to", str(tmp_path / "b")]) == 0
    assert "NOT BETTER" in capsys.readouterr().out


def write_store(folder: Path, spec: UnitSpec) -> None:
    with UnitStoreWriter(folder, spec) as writer:
        for index in range(5):
            writer.add(UnitRow(id=str(index), units=np.array([1, 2, 3, 1, 2, 3, 4]) + index))
    assert len(UnitStore(folder)) == 5


def test_golden_prompt_becomes_a_run_and_a_run_a_checkpoint(
    golden: Path, tiny_stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    stack = tmp_path / "stack"
    shutil.copytree(tiny_stack, stack, ignore=shutil.ignore_patterns("lm"))
    assert run_command_line(["convert", str(golden / "ulm" / "cfg_dict.pt"), "--to", str(stack / "lm")]) == 0
    if load_lm(stack / "lm").vocab.n_units != 100:
        pytest.skip("the small stack of the tests has 100 units; this golden model has others")
    prompt = str(next(iter(sorted((golden / "speechprompt_v2").glob("*/checkpoint_best.pt")))))
    assert run_command_line(["convert", prompt, "--to", str(tmp_path / "run")]) == 2
    assert "--stack" in capsys.readouterr().err
    assert run_command_line(["convert", prompt, "--to", str(tmp_path / "run"), "--stack", str(stack)]) == 0
    capsys.readouterr()
    assert load_run(tmp_path / "run").record.labels
    out = tmp_path / "v2" / "checkpoint_best.pt"
    assert run_command_line(["convert", str(tmp_path / "run"), "--to", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "speechprompt_v2"
    assert out.is_file() and (out.parent / "verbalizer.json").is_file()


def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    for name in ("checkpoint.pt", "km.bin"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        assert run_command_line(["convert", str(tmp_path / name), "--to", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert f"{os.system.__module__}.system" in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()


def test_an_unknown_kind_is_told_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "other.pt")
    assert run_command_line(["convert", str(tmp_path / "other.pt"), "--to", str(tmp_path / "out")]) == 2
    assert "state_dict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.pt", "neither"),
        ("folder", "neither"),
        ("empty.pt", "0 bytes"),
        ("text.pt", "whole pickle"),
        ("model.safetensors", "got safetensors"),
        ("adaptive.pt", "adaptive_input"),
        ("no_dictionary.pt", "dict.txt"),
        ("vocoder.pt", "config.json"),
        ("list.pt", "file of list"),
        ("zip.pt", "data.pkl"),
        ("heads.pt", "encoder_attention_heads"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_text("these are words\n" * 9, encoding="utf-8")
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    table = torch.zeros(6, 4)
    contents: dict[str, object] = {
        "adaptive": {
            "model": {"decoder.embed_tokens.embeddings.0.0.weight": table},
            "cfg": {"model": {"adaptive_input": True}},
        },
        "no_dictionary": {"model": {"decoder.embed_tokens.weight": table}},
        "vocoder": {"generator": {"dict.weight": table}},
        "list": [1, 2],
        "heads": {
            "model": {
                "feature_extractor.conv_layers.0.0.weight": table,
                "encoder.layer_norm.weight": table[0],
                "encoder.pos_conv.0.weight_v": torch.zeros(4, 1, 2),
            },
            "cfg": {"model": {"conv_feature_layers": "[(4, 3, 2)]"}},
        },
    }
    for stem, content in contents.items():
        torch.save(content, tmp_path / f"{stem}.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "x")
    if name == "adaptive.pt":
        (tmp_path / "dict.txt").write_text("0 1\n1 1\n", encoding="utf-8")
    assert run_command_line(["convert", str(tmp_path / name), "--to", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not (tmp_path / "out").exists()


def test_units_to_measure_on_must_be_there_and_the_model_a_decoder(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(golden / "unit_mbart" / "checkpoint.pt")
    command = ["convert", checkpoint, "--to", str(tmp_path / "lm"), "--units"]
    assert run_command_line([*command, str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "lm").exists()
    write_store(tmp_path / "units", UnitSpec("x", 1, 1000, 50.0, "0" * 12))
    assert run_command_line([*command, str(tmp_path / "units")]) == 2
    err = capsys.readouterr().err
    assert "unit_mbart" in err and "leave --units out" in err and err.count("\n") == 1
