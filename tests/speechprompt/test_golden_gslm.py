"""Converted GSLM checkpoints of every generation against logits and continuations of the reference."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt.convert.gslm import convert
from speechprompt.fairseq import read_fairseq
from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden"))
FILES = sorted(file.name for file in GOLDEN.glob("ulm/*.pt")) or ["cfg_dict.pt"]
LOGITS = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The converted model, what the conversion said, the golden arrays, their prefix, and the settings."""
    to = tmp_path_factory.mktemp("gslm") / request.param
    result = convert(read_fairseq(golden / "ulm" / request.param), to)
    spec = json.loads((golden / "ulm" / "spec.json").read_text(encoding="utf-8"))
    lm = load_lm(to)
    assert isinstance(lm, GSLM)
    # The file names say which weights were rounded to float16; arrays of these begin with fp16_.
    rounded = "half" in request.param or "dictconfig" in request.param
    return lm, result, np.load(golden / "ulm" / "golden.npz"), "fp16_" if rounded else "", spec["config"]


def test_golden_dimensions_and_ignored_tensors(case: Any) -> None:
    lm, result, _, _, config = case
    assert result.kind == "gslm" and result.dictionary_size == config["vocab"] == len(lm.vocab)
    assert (lm.n_layers, lm.d_model, lm.n_heads) == tuple(
        config[f"decoder_{name}"] for name in ("layers", "embed_dim", "attention_heads")
    )
    assert lm.config.max_positions == config["tokens_per_sample"]
    assert result.n_parameters == lm.n_parameters()
    kept = {"decoder.version", "decoder.output_projection.weight", "decoder.embed_positions._float_tensor"}
    assert result.ignored.keys() <= kept and all(result.ignored.values())


def test_golden_logits(case: Any) -> None:
    lm, _, arrays, prefix, _ = case
    ids_BT = torch.from_numpy(arrays["tokens"])
    real_BT = ids_BT.ne(lm.vocab.pad)
    hidden_BTD = lm(lm.embed(ids_BT))
    logits_BTV = lm.logits(hidden_BTD)
    torch.testing.assert_close(
        logits_BTV[real_BT], torch.from_numpy(arrays[f"{prefix}logits"])[real_BT], **LOGITS
    )
    if not prefix:
        torch.testing.assert_close(
            hidden_BTD[real_BT], torch.from_numpy(arrays["features"])[real_BT], **LOGITS
        )


def test_golden_incremental_logits(case: Any) -> None:
    lm, _, arrays, prefix, _ = case
    if prefix:
        pytest.skip("the incremental logits are those of the weights in float32")
    ids_T = torch.from_numpy(arrays["tokens"])[0]
    cache = lm.new_cache(1, len(ids_T))
    for place, token in enumerate(ids_T):
        x_BTD = lm.embed(token[None, None], n_before_B=torch.tensor([place]))
        got_V = lm.logits(lm(x_BTD, cache=cache))[0, 0]
        torch.testing.assert_close(
            got_V, torch.from_numpy(arrays["incremental_logits_row0"])[0, place], **LOGITS
        )


@torch.no_grad()
def test_golden_greedy_token_ids(case: Any) -> None:
    """Every id, special tokens included, which the reference may emit: all but padding."""
    lm, _, arrays, prefix, _ = case
    for source_T, expected in zip(
        arrays["prefix_src_tokens"], arrays[f"{prefix}greedy_tokens"][:, 0], strict=True
    ):
        given = source_T[source_T != lm.vocab.pad]
        expected = expected[expected >= 0]
        row, cache = list(given), lm.new_cache(1, len(given) + len(expected))
        new_T = torch.from_numpy(np.asarray(row))[None]
        while len(row) - 1 < len(expected):
            before = torch.tensor([len(row) - new_T.shape[1]])
            logits_V = lm.logits(lm(lm.embed(new_T, n_before_B=before), cache=cache))[0, -1]
            logits_V[lm.vocab.pad] = -torch.inf
            is_last = len(row) == expected_limit(arrays)
            row.append(lm.vocab.eos if is_last else int(logits_V.argmax()))
            new_T = torch.tensor([[row[-1]]])
        assert row[1:] == expected.tolist()


def expected_limit(arrays: Any) -> int:
    """Tokens after which the reference ends a hypothesis: what its widest array has room for, `</s>` included."""
    width: int = arrays["greedy_tokens"].shape[2]
    return width
