"""A rounded language model says nearly what the exact one says, in half the bytes, and is known as the same one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt import load_stack, predict
from speechprompt.decode import SamplingConfig, generate
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.rounded import rounded
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import build_prompted
from speechprompt.run import load_run
from speechprompt.serve.runs import Runs
from speechprompt.serve.shared_pass import answer_rows
from speechprompt.stack import Stack, StackError
from speechprompt.steered import rounded_lm, steering
from speechprompt.views import offset_views
from speechprompt.vocab import MBartVocab
from tasks.spoken_digits import READ_SENTENCE
from tests.speechprompt.conftest import tiny_mbart
from units.errors import InputError

NEAR = 2.0**-5  # of the largest value: bfloat16 keeps eight bits, and three layers round one after the other


def near(rough: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether values differ, and by no more than NEAR of the largest."""
    return 0 < float((rough - exact).abs().max()) <= NEAR * float(exact.abs().max())


def rows(lm: GSLM, n_rows: int = 3, n_tokens: int = 9) -> torch.Tensor:
    ids_BT = torch.randint(4, 24, (n_rows, n_tokens), generator=torch.Generator().manual_seed(0))
    ids_BT[:, 0] = lm.vocab.eos
    return ids_BT


@torch.no_grad()
@pytest.mark.parametrize("read", [None, [[8], [2], [5]]])
def test_states_behind_a_prefix_are_near_the_exact_ones(lm: GSLM, read: list[list[int]] | None) -> None:
    read_BR = None if read is None else torch.tensor(read)
    vectors = torch.randn(2, lm.n_layers, 4, lm.d_model, generator=torch.Generator().manual_seed(1))
    states = [
        each(each.embed(rows(lm)), prefix=each.prefix(*vectors), read_positions=read_BR)
        for each in (rounded(lm), lm)
    ]
    assert states[0].dtype == torch.float32
    assert near(*states)


@torch.no_grad()
def test_decoding_with_a_cache_is_near_the_whole_pass(lm: GSLM) -> None:
    rough, ids_BT = rounded(lm), rows(lm)
    cache = rough.new_cache(3, 9)
    steps = [
        rough(rough.embed(ids_BT[:, [n]], n_before_B=torch.full((3,), n)), cache=cache) for n in range(9)
    ]
    whole = rough(rough.embed(ids_BT))
    assert float((torch.cat(steps, dim=1) - whole).abs().max()) <= NEAR * float(whole.abs().max())


def test_it_generates_and_the_exact_model_stays_as_it_was(lm: GSLM) -> None:
    seeds, config = [np.array([3, 4, 5])], SamplingConfig(max_units=12, greedy=True, allow_end=False)
    before, weights = generate(lm, seeds, config), {n: w.clone() for n, w in lm.state_dict().items()}
    [units] = generate(rounded(lm), seeds, config)
    assert len(units) == 12
    np.testing.assert_array_equal(generate(lm, seeds, config), before)
    assert all(torch.equal(weights[name], weight) for name, weight in lm.state_dict().items())


def test_its_matrices_take_half_the_bytes_and_the_rest_is_shared(lm: GSLM) -> None:
    def n_bytes(model: GSLM) -> int:
        return sum(p.nbytes for p in model.layers.parameters() if p.ndim == 2)

    rough = rounded(lm)
    assert 2 * n_bytes(rough) == n_bytes(lm)
    assert rough.embed_tokens.weight is lm.embed_tokens.weight
    assert rounded(rough) is rough


def test_it_is_known_as_the_model_it_was_made_of_and_is_not_saved(lm: GSLM, tmp_path: Path) -> None:
    rough = rounded(lm)
    assert rough.fingerprint() == lm.fingerprint()
    assert rounded(lm, fingerprint="known").fingerprint() == "known"
    with pytest.raises(InputError, match="rounded"):
        rough.save(tmp_path / "lm")
    assert not (tmp_path / "lm").exists()


def test_a_module_steers_it_for_a_while_only(lm: GSLM) -> None:
    prompted = build_prompted(lm, 3, PromptConfig(length=2))
    rough = rounded_lm(prompted, lm.fingerprint())
    assert rough is not None
    with pytest.raises(KeyError), steering(prompted, rough):
        assert prompted.lm is rough
        raise KeyError
    assert prompted.lm is lm
    with steering(prompted, None):
        assert prompted.lm is lm
    lm.layers[0].fc1.weight.requires_grad_(True)  # it trains: what is rounded would be trained apart from it
    assert rounded_lm(prompted, lm.fingerprint()) is None


def test_a_run_is_opened_and_labels_by_it(word_run: Path, two_words: Path) -> None:
    clip = next(two_words.glob("*.flac"))
    exact, rough = (predict(word_run, clip, precision=name)[0] for name in ("float32", "bf16"))
    assert exact.label == rough.label
    assert rough.probability == pytest.approx(exact.probability, abs=0.03)
    run = load_run(word_run, precision="bf16")
    assert run.stack.lm.product_dtype == torch.bfloat16
    assert run.stack.lm_fingerprint == run.record.lm_fingerprint


def test_a_server_answers_by_it_as_predict_does(word_run: Path, two_words: Path) -> None:
    runs = Runs(precision="bf16")
    served, clip = runs.add(word_run), next(two_words.glob("*.flac"))
    assert runs.stack.lm.product_dtype == torch.bfloat16
    rows = [row for [row] in runs.stack.units_in_views([clip], offset_views(served.run.n_offsets))]
    [answer] = answer_rows([(served, rows)], batch_tokens=4096)
    [expected] = predict(word_run, clip, precision="bf16")
    assert answer[0] == (expected.label, pytest.approx(expected.probability, abs=1e-3))


def test_units_heard_in_bfloat16_are_nearly_all_the_same_and_spoken_in_it(mini_stack: Stack) -> None:
    stacks = (mini_stack, load_stack("mini", precision="bf16"))
    exact, rough = (stack.quantize(READ_SENTENCE, deduplicate=False)[0] for stack in stacks)
    assert len(exact) == len(rough)
    assert 0.98 < np.mean(exact.units == rough.units) <= 1
    kept = [stack.vocoder.generator.conv_pre.weight.dtype for stack in stacks]
    assert kept == [torch.float32, torch.bfloat16]


def test_an_unknown_precision_is_refused(tiny_stack: Path) -> None:
    with pytest.raises(StackError, match="float32 or bf16, got 'int8'"):
        load_stack(tiny_stack, precision="int8")


def test_an_encoder_decoder_as_language_model_says_that_it_cannot_be_rounded(
    tiny_stack: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(tiny_stack, folder, ignore=shutil.ignore_patterns("lm"))
    tiny_mbart(MBartVocab([str(unit) for unit in range(100)], ["und"])).save(folder / "lm")
    content = json.loads((folder / "stack.json").read_text())
    content["lm"]["family"] = "unit_mbart"
    (folder / "stack.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="family unit_mbart, got bf16"):
        _ = load_stack(folder, precision="bf16").seq2seq
