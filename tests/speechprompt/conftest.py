"""What several tests steer: a small language model of random weights, two spoken words, and a run trained on them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from speechprompt.cli import run as run_command_line
from speechprompt.lm.base import UnitLM
from speechprompt.lm.causal_hf import CausalHF
from speechprompt.lm.causal_units import CausalVocab
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.prosody import ProsodyConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.vocab import MBartVocab, UnitsFirstVocab, UnitVocab
from units.audio import read_audio, write_audio


def random_lm(seed: int = 0, *, n_layers: int = 3, n_units: int = 20, dropout: float = 0.1) -> GSLM:
    """A GSLM of width 32 in evaluation mode. No bias is 0 and no norm weight is 1, so that none can be forgotten."""
    config = TransformerConfig(n_layers, d_model=32, n_heads=4, d_ffn=48, dropout=dropout, max_positions=64)
    lm = GSLM(config, UnitVocab.from_n_units(n_units)).initialise(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        lm.embed_tokens.weight[lm.vocab.pad] = 0
    return lm.eval()


@pytest.fixture
def lm() -> GSLM:
    return random_lm()


def causal_lm() -> CausalHF:
    """Units as the last tokens of a small OPT of random weights."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=24,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    hf = OPTForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return CausalHF(hf, CausalVocab(torch.arange(4, 24).numpy(), 24, 2, 2))


@pytest.fixture(params=["gslm", "causal_hf"])
def any_lm(request: pytest.FixtureRequest) -> UnitLM:
    return random_lm() if request.param == "gslm" else causal_lm()


@pytest.fixture(scope="session")
def word_run(two_words: Path, tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run on `two_words`, made by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "words"
    command = ["train", "--task", "csv_classification", "--data", str(two_words), "--stack", str(tiny_stack)]
    assert run_command_line([*command, "--out", str(folder), "--max-epochs", "2"]) == 0
    return folder


@pytest.fixture(scope="session")
def mini_stack() -> Stack:
    """The stack that ships with the package, loaded once."""
    return load_stack("mini")


def tiny_mbart(vocab: MBartVocab, max_positions: int = 320) -> UnitMBart:
    side = TransformerConfig(
        1, 32, 2, 64, max_positions=max_positions, activation="gelu", positions="learned"
    )
    return UnitMBart(MBartConfig(side, side), vocab).initialise(0)


@pytest.fixture(scope="session")
def prosodic_stack(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack in small with a pGSLM in place of its LM, which reads durations and F0 as classes, one unit later."""
    folder = tmp_path_factory.mktemp("stacks") / "prosodic"
    shutil.copytree(tiny_stack, folder, ignore=shutil.ignore_patterns("lm"))
    prosody = ProsodyConfig(
        discrete_duration=True,
        discrete_f0=True,
        n_f0_bins=6,
        duration_delay=1,
        f0_delay=1,
        f0_edges=(-0.3, -0.1, 0.0, 0.1, 0.3),
    )
    transformer = TransformerConfig(2, 32, 4, 48, max_positions=512)
    PGSLM(transformer, UnitsFirstVocab(100), prosody).initialise(3).save(folder / "lm")
    content = json.loads((folder / "stack.json").read_text())
    content |= {"name": "prosodic", "lm": {"family": "pgslm", "folder": "lm"}}
    (folder / "stack.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def speech(digits_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 recordings, each three spoken digits in a row."""
    folder = tmp_path_factory.mktemp("speech")
    with (digits_sample / "train.csv").open(encoding="utf-8", newline="") as lines:
        paths = [digits_sample / row["path"] for row in csv.DictReader(lines)]
    for number in range(12):
        waves = [read_audio(path) for path in paths[3 * number : 3 * number + 3]]
        write_audio(folder / f"{number:02}.wav", np.concatenate(waves))
    return folder


@pytest.fixture(scope="session")
def seq2seq_stack(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack in small with a unit mBART beside its LM."""
    folder = tmp_path_factory.mktemp("stacks") / "with_mbart"
    shutil.copytree(tiny_stack, folder)
    tiny_mbart(MBartVocab([str(unit) for unit in range(100)], ["und"])).save(folder / "unit_mbart")
    content = json.loads((folder / "stack.json").read_text())
    content["seq2seq"] = {"family": "unit_mbart", "folder": "unit_mbart"}
    (folder / "stack.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def inpainting_run(speech: Path, seq2seq_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "inpainting"
    command = ["train", "--task", "inpainting", "--data", str(speech), "--stack", str(seq2seq_stack)]
    options = ["--prompt-length", "3", "--max-epochs", "2", "--gap-s", "0.2,0.4", "--seed", "3"]
    assert run_command_line([*command, *options, "--out", str(folder)]) == 0
    return folder
