"""Converting language models of options that no golden file has, and refusing what does not fit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechprompt.convert.gslm import convert, read_gslm
from speechprompt.fairseq import CheckpointError, read_fairseq
from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.vocab import UnitVocab
from units.errors import InputError

TINY = TransformerConfig(2, d_model=16, n_heads=4, d_ffn=24, max_positions=32)


def random_model(config: TransformerConfig, symbols: list[str]) -> GSLM:
    lm = GSLM(config, UnitVocab(symbols)).initialise(1)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return lm.eval()


def write_fairseq(folder: Path, lm: GSLM, **changed: Any) -> Path:
    """A checkpoint as fairseq would have written it, with dict.txt; `changed` ones are replaced or left out (None)."""
    model: dict[str, Tensor | None] = {f"decoder.{name}": t for name, t in lm.state_dict().items()}
    model |= {"decoder.version": torch.tensor([3.0]), **changed}
    settings = {
        "_name": "transformer_lm",
        "decoder_attention_heads": lm.config.n_heads,
        "share_decoder_input_output_embed": lm.config.tied,
        "decoder_learned_pos": lm.config.positions == "learned",
        "no_scale_embedding": not lm.config.scale_embedding,
        "activation_fn": lm.config.activation,
        "no_token_positional_embeddings": lm.config.positions == "none",
    }
    config = {
        "model": settings,
        "task": {"_name": "language_modeling", "tokens_per_sample": lm.max_positions},
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model": {n: t for n, t in model.items() if t is not None}, "cfg": config}
    torch.save(content, folder / "checkpoint.pt")
    (folder / "dict.txt").write_text("".join(f"{s} 1\n" for s in lm.vocab.symbols), encoding="utf-8")
    return folder / "checkpoint.pt"


@pytest.mark.parametrize(
    "options",
    [
        {"tied": False},
        {"positions": "learned"},
        {"positions": "none", "activation": "gelu"},
        {"positions": "learned", "tied": False, "scale_embedding": False},
    ],
    ids=str,
)
def test_every_option_survives_conversion(options: dict[str, Any], tmp_path: Path) -> None:
    config = replace(TINY, **options)
    lm = random_model(
        config, ["7", "3", "0", "1", "2", "madeupword0000"]
    )  # in order of frequency, and a filler
    result = convert(read_fairseq(write_fairseq(tmp_path, lm)), tmp_path / "lm")
    again = load_lm(tmp_path / "lm")
    assert isinstance(again, GSLM) and again.config == replace(config, dropout=0.0)
    assert again.vocab == lm.vocab and result.n_parameters == lm.n_parameters()
    ids_BT = torch.tensor([[2, 4, 5, 6, 7], [2, 8, 4, 1, 1]])
    torch.testing.assert_close(again.logits(again(again.embed(ids_BT))), lm.logits(lm(lm.embed(ids_BT))))
    assert again.vocab.encode([7, 3]).tolist() == [4, 5]


def test_learned_positions_begin_behind_the_padding_row() -> None:
    lm = random_model(replace(TINY, positions="learned"), ["0", "1"])
    x_BTD = lm.embed(torch.tensor([[2, 4, 1]]))
    token_D = lm.embed_scale * lm.token_embedding(torch.tensor(4))
    assert lm.embed_positions is not None
    torch.testing.assert_close(x_BTD[0, 1], token_D + lm.embed_positions.weight[3])
    assert not torch.equal(x_BTD[0, 0], x_BTD[0, 1])


def test_projections_of_early_files_are_split(tmp_path: Path) -> None:
    lm = random_model(TINY, ["0", "1", "2"])
    changed: dict[str, Any] = {}
    for layer in range(2):
        for part in ("weight", "bias"):
            root = f"decoder.layers.{layer}.self_attn"
            names = [f"{root}.{side}_proj.{part}" for side in "qkv"]
            changed[f"{root}.in_proj_{part}"] = torch.cat(
                [lm.state_dict()[n.removeprefix("decoder.")] for n in names]
            )
            changed |= dict.fromkeys(names)
    again, _ = read_gslm(read_fairseq(write_fairseq(tmp_path, lm, **changed)))
    ids_BT = torch.tensor([[2, 4, 5]])
    assert torch.equal(again(again.embed(ids_BT)), lm(lm.embed(ids_BT)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decoder.project_in_dim.weight": torch.zeros(2, 2)}, "project_in_dim"),
        ({"decoder.layer_norm.weight": None}, "layer_norm.weight"),
        ({"decoder.layers.1.fc1.bias": None}, "layers.1.fc1.bias"),
        ({"decoder.layers.1.fc1.weight": torch.zeros(3, 16)}, "transformer"),
        ({"decoder.embed_tokens.weight": torch.zeros(9, 16)}, "9 tokens"),
        ({"decoder.output_projection.weight": torch.zeros(7, 16)}, "output_projection"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write_fairseq(tmp_path, random_model(TINY, ["0", "1", "2"]), **changed)
    with pytest.raises(CheckpointError, match=message):
        convert(read_fairseq(file), tmp_path / "lm")
    assert not (tmp_path / "lm").exists()


def test_a_missing_dictionary_is_named(tmp_path: Path) -> None:
    file = write_fairseq(tmp_path, random_model(TINY, ["0", "1", "2"]))
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(InputError, match="dict.txt"):
        convert(read_fairseq(file), tmp_path / "lm")


_LOAD = """
import sys
from pathlib import Path
from speechprompt.convert.gslm import read_gslm
from speechprompt.fairseq import read_fairseq
read_gslm(read_fairseq(sys.argv[1]))  # small: everything that loading needs is imported

def peak_kib():  # not getrusage: its peak is inherited from the process that started this one
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kib()
lm, _ = read_gslm(read_fairseq(sys.argv[2]))
total = sum(float(parameter.sum()) for parameter in lm.parameters())  # reads every page
print(peak_kib() - before, sum(4 * parameter.numel() for parameter in lm.parameters()), total)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count of memory")
@pytest.mark.parametrize("half", [False, True])
def test_loading_takes_little_more_than_the_model(half: bool, tmp_path: Path) -> None:
    small = write_fairseq(tmp_path / "small", random_model(TINY, ["0", "1"]))
    lm = GSLM(
        TransformerConfig(4, d_model=768, n_heads=4, d_ffn=3072), UnitVocab.from_n_units(100)
    ).initialise()
    changed = {f"decoder.{n}": t.half() for n, t in lm.state_dict().items()} if half else {}
    large = write_fairseq(tmp_path / "large", lm, **changed)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(small), str(large)], capture_output=True, text=True, check=True
    )
    grown_kib, n_bytes, _ = (float(part) for part in done.stdout.split())
    assert n_bytes > 1e8
    assert 0.9 * n_bytes <= grown_kib * 1024 <= 1.3 * n_bytes
