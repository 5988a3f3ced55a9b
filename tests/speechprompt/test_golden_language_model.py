"""The language model and its prompts against numbers that the reference implementation computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.convert.gslm import read_gslm
from speechprompt.decode import SamplingConfig, generate
from speechprompt.fairseq import read_fairseq
from speechprompt.lm.gslm import GSLM
from speechprompt.prompt import DeepPrompt, InputPrompt
from tests.speechprompt.reference_prompts import VARIANTS, language_model

LOGITS = {"atol": 1e-4, "rtol": 1e-4}
GRADIENTS = {"atol": 2e-4, "rtol": 1e-3}
KEY, VALUE = "decoder.deep_key_embed_prompts", "decoder.deep_value_embed_prompts"
INPUT, SEPARATOR = "decoder.prefix_embed_prompts.weight", "decoder.sep_embed.weight"
LINEAR = "decoder.prompt_linear_verbalizer.weight"


@pytest.fixture(scope="module")
def gslm(golden: Path) -> GSLM:
    lm, _ = read_gslm(read_fairseq(golden / "ulm" / "cfg_dict.pt"))
    lm.freeze()
    return lm


@pytest.fixture(scope="module")
def ulm(golden: Path) -> Any:
    return np.load(golden / "ulm" / "golden.npz")


def test_logits_and_features_are_the_reference_s(gslm: GSLM, ulm: Any) -> None:
    ids_BT = torch.from_numpy(ulm["tokens"])
    real_BT = ids_BT.ne(gslm.vocab.pad)
    hidden_BTD = gslm(gslm.embed(ids_BT))
    torch.testing.assert_close(hidden_BTD[real_BT], torch.from_numpy(ulm["features"])[real_BT], **LOGITS)
    torch.testing.assert_close(
        gslm.logits(hidden_BTD)[real_BT], torch.from_numpy(ulm["logits"])[real_BT], **LOGITS
    )


def test_incremental_logits_are_the_reference_s(gslm: GSLM, ulm: Any) -> None:
    expected = torch.from_numpy(ulm["incremental_logits_row0"])[0]
    ids_T = torch.from_numpy(ulm["tokens"])[0]
    cache = gslm.new_cache(1, len(ids_T))
    for place, token in enumerate(ids_T):
        x_BTD = gslm.embed(token[None, None], n_before_B=torch.tensor([place]))
        torch.testing.assert_close(gslm.logits(gslm(x_BTD, cache=cache))[0, 0], expected[place], **LOGITS)


def test_greedy_continuations_are_the_reference_s_while_it_emits_units(gslm: GSLM, ulm: Any) -> None:
    n_compared = 0
    for source_T, length, hypothesis_T in zip(
        ulm["prefix_src_tokens"], ulm["prefix_src_lengths"], ulm["greedy_tokens"][:, 0], strict=True
    ):
        seed = gslm.vocab.decode(source_T[source_T >= 4])
        assert len(seed) == length - 1
        expected = hypothesis_T[len(seed) :]
        special = np.flatnonzero(expected < 4)  # the reference may emit special tokens, we never do
        expected = expected[: special[0]] if len(special) else expected
        if len(expected):
            config = SamplingConfig(max_units=len(expected), greedy=True)
            assert gslm.vocab.encode(generate(gslm, [seed], config)[0]).tolist() == expected.tolist()
        n_compared += len(expected)
    assert n_compared >= 20


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "_v2/" in name])
def test_prompted_logits_loss_and_gradients_are_the_reference_s(variant: str, golden: Path) -> None:
    gslm = language_model(golden, variant)
    data = np.load(golden / variant / "golden.npz")
    weights = {
        name.removeprefix("param/"): torch.from_numpy(data[name])
        for name in data
        if name.startswith("param/")
    }
    gradients = {
        name.removeprefix("grad/"): torch.from_numpy(data[name]) for name in data if name.startswith("grad/")
    }
    ids_BT, target_BT = torch.from_numpy(data["src_tokens"]), torch.from_numpy(data["target"])
    separator = weights[SEPARATOR][0].requires_grad_()
    x_BTD = gslm.embed(ids_BT, separator=separator)
    n_prompt = len(weights[INPUT])
    got: dict[str, Tensor] = {}
    is_deep = f"{KEY}.0.weight" in weights
    if not is_deep:
        prompt = InputPrompt(weights[INPUT]).eval()
        x_BTD = torch.cat([prompt.rows().expand(len(x_BTD), -1, -1), x_BTD], dim=1)
        hidden_BTD = gslm(x_BTD)[:, n_prompt:]
    else:
        key_LPD, value_LPD = (
            torch.stack([weights[f"{side}.{i}.weight"] for i in range(gslm.n_layers)])
            for side in (KEY, VALUE)
        )
        deep = DeepPrompt(key_LPD, value_LPD).eval()
        hidden_BTD = gslm(x_BTD, prefix=deep.prefix(gslm))
    logits_BTC = gslm.logits(hidden_BTD)
    if LINEAR in weights:
        logits_BTC = F.linear(logits_BTC, weights[LINEAR].requires_grad_())
    real_BT = ids_BT.ne(gslm.vocab.pad)
    expected_BTC = torch.from_numpy(data["logits"])[:, n_prompt:]
    torch.testing.assert_close(logits_BTC[real_BT], expected_BTC[real_BT], **LOGITS)

    # Summed over targets from `<s>` on; the reference divides by the number of all targets of the batch.
    counted_BT = target_BT.eq(gslm.vocab.bos).cumsum(1).bool() & target_BT.ne(gslm.vocab.pad)
    loss = F.cross_entropy(logits_BTC[counted_BT], target_BT[counted_BT], reduction="sum")
    torch.testing.assert_close(loss.detach(), torch.from_numpy(data["loss_sum"]), rtol=1e-5, atol=0)
    assert int(target_BT.ne(gslm.vocab.pad).sum()) == int(data["sample_size"])

    loss.backward()
    got[SEPARATOR] = separator.grad[None]
    if not is_deep:
        got[INPUT] = prompt.input.grad
    else:
        for i in range(gslm.n_layers):
            got[f"{KEY}.{i}.weight"], got[f"{VALUE}.{i}.weight"] = deep.key.grad[i], deep.value.grad[i]
        # The reference's input prompt is dead beside a deep one; ours does not exist.
        assert not gradients.pop(INPUT).any()
    if LINEAR in weights:
        got[LINEAR] = weights[LINEAR].grad
    assert got.keys() == gradients.keys()
    for name, expected in gradients.items():
        torch.testing.assert_close(
            got[name], expected, **GRADIENTS, msg=lambda text, name=name: f"{name}: {text}"
        )
