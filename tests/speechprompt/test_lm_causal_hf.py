"""Causal language models of transformers behind the protocol: OPT and Qwen2 above all."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from speechprompt.batch import LabelledUnits, collate
from speechprompt.cli import run
from speechprompt.decode import SamplingConfig, generate
from speechprompt.lm import load_lm
from speechprompt.lm.causal_hf import CausalHF
from speechprompt.lm.causal_past import seeing_inputs
from speechprompt.lm.causal_units import CausalVocab
from speechprompt.perplexity import perplexity
from speechprompt.prompt import make_prompt
from speechprompt.prompted import PromptConfig, build_prompted, restore_prompted
from speechprompt.stack_folder import load_stack
from units.errors import InputError

N_UNITS, OFFSET = 20, 4
SIZES: dict[str, dict[str, Any]] = {
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    "opt-projected": {  # as OPT-350m, which TWIST-350M began as: narrow embeddings, norms after
        "hidden_size": 32,
        "word_embed_proj_dim": 24,
        "do_layer_norm_before": False,
        "ffn_dim": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "qwen2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "pad_token_id": 0,
    },
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "gpt2": {
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
}


def random_hf(kind: str, *, vocab_size: int = N_UNITS + OFFSET, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind.split("-")[0], **{**SIZES[kind], "vocab_size": vocab_size, **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing is 0 or 1, so that nothing can be forgotten
            parameter += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def twist_folder(folder: Path, kind: str) -> Path:
    random_hf(kind, offset=OFFSET).save_pretrained(folder)
    return folder


@pytest.fixture(params=["opt", "opt-projected", "qwen2", "llama", "gpt2", "gpt_neox"])
def lm(request: pytest.FixtureRequest, tmp_path: Path) -> CausalHF:
    return CausalHF.load(twist_folder(tmp_path / "hf", request.param))


def row(lm: CausalHF, n_units: int = 9, seed: int = 0) -> torch.Tensor:
    units = np.random.default_rng(seed).integers(N_UNITS, size=n_units)
    return torch.from_numpy(np.concatenate([[lm.vocab.eos], lm.vocab.encode(units)]))[None]


@torch.no_grad()
def test_logits_are_the_models_own(lm: CausalHF) -> None:
    ids_BT = row(lm)
    own_BT = ids_BT.clone()
    own_BT[0, 0] = lm.vocab.start
    logits_BTV = lm.logits(lm(lm.embed(ids_BT)))
    torch.testing.assert_close(logits_BTV, lm.hf(input_ids=own_BT).logits, atol=1e-5, rtol=1e-4)
    some = torch.tensor([5, 3])
    torch.testing.assert_close(lm.logits(lm(lm.embed(ids_BT)), some), logits_BTV[..., some])
    at = torch.tensor([[3, 7]])
    torch.testing.assert_close(lm.logits(lm(lm.embed(ids_BT), read_positions=at)), logits_BTV[:, [3, 7]])


@torch.no_grad()
def test_another_thread_reads_undisturbed_while_a_prefix_is_made(lm: CausalHF) -> None:
    x_BTD = lm.embed(row(lm))
    expected_BTD = lm(x_BTD)
    seen: list[torch.Tensor] = []
    with seeing_inputs(list(lm._attentions), lambda layer, x: torch.zeros_like(x)):
        other = threading.Thread(target=lambda: seen.append(lm(x_BTD)))
        other.start()
        other.join()
        assert not torch.equal(lm(x_BTD), expected_BTD)
    torch.testing.assert_close(seen[0], expected_BTD)


@torch.no_grad()
def test_a_prefix_equals_overwritten_attention_inputs_before_the_row(lm: CausalHF) -> None:
    """The keys and values of P rows put before the tokens, whose attention inputs are replaced: the definition."""
    key_LPD, value_LPD = torch.randn(2, lm.n_layers, 5, lm.d_model)
    x_BTD = lm.embed(row(lm))
    prefix = lm.prefix(key_LPD, value_LPD)
    assert prefix.key_LBHPE.shape == (lm.n_layers, 1, lm.n_heads, 5, lm.d_head)
    plain, steered = lm(x_BTD), lm(x_BTD, prefix=prefix)
    assert (plain - steered).abs().max() > 1e-3
    same = lm.prefix(key_LPD[:, [2, 0, 1, 4, 3]], value_LPD[:, [2, 0, 1, 4, 3]])
    torch.testing.assert_close(lm(x_BTD, prefix=same), steered, atol=1e-5, rtol=1e-4)  # a set, in no order
    for name in ("k_proj", "v_proj"):
        if not hasattr(lm._attentions[0], name):
            return
    for layer, attention in enumerate(lm._attentions):
        key_PD, value_PD = attention.k_proj(key_LPD[layer]), attention.v_proj(value_LPD[layer])  # type: ignore[operator]
        expected = key_PD.unflatten(1, (lm.n_heads, lm.d_head)).transpose(0, 1)
        torch.testing.assert_close(prefix.key_LBHPE[layer, 0], expected, atol=1e-5, rtol=1e-4)
        expected = value_PD.unflatten(1, (lm.n_heads, lm.d_head)).transpose(0, 1)
        torch.testing.assert_close(prefix.value_LBHPE[layer, 0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("steered", [False, True])
def test_cached_decoding_equals_uncached(lm: CausalHF, steered: bool) -> None:
    prefix = make_prompt("deep", 3, lm).eval().prefix(lm) if steered else None
    ids_BT = row(lm, 12)
    whole = lm(lm.embed(ids_BT), prefix=prefix)
    cache = lm.new_cache(1, ids_BT.shape[1], prefix=prefix)
    pieces = []
    for start, stop in ((0, 4), (4, 5), (5, 11), (11, 13)):
        x_BTD = lm.embed(ids_BT[:, start:stop], n_before_B=torch.tensor([start]))
        pieces.append(lm(x_BTD, cache=cache))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="too short"):
        lm(lm.embed(ids_BT), cache=cache)


@torch.no_grad()
@pytest.mark.parametrize("steered", [False, True])
def test_rows_of_a_batch_are_continued_as_alone(lm: CausalHF, steered: bool) -> None:
    prefix = make_prompt("deep", 3, lm).eval().prefix(lm) if steered else None
    rows = [np.array([3, 4, 5, 6, 7, 8]), np.array([1]), np.array([9, 2, 9])]
    config = SamplingConfig(max_units=8, greedy=True, allow_end=False)
    together = generate(lm, rows, config, prefix=prefix)
    for units, new in zip(rows, together, strict=True):
        [alone] = generate(lm, [units], config, prefix=prefix)
        np.testing.assert_array_equal(alone, new)
        expected = list(units)
        for _ in range(8):
            ids = np.concatenate([[lm.vocab.eos], lm.vocab.encode(np.array(expected))])
            logits_V = lm.logits(lm(lm.embed(torch.from_numpy(ids)[None]), prefix=prefix))[0, -1]
            unit_ids = torch.from_numpy(lm.vocab.unit_ids)
            expected.append(int(logits_V[unit_ids].argmax()))
        assert expected[len(units) :] == new.tolist()


def test_right_padding_changes_no_real_row(lm: CausalHF) -> None:
    ids_BT = row(lm)
    padded_BT = torch.nn.functional.pad(ids_BT, (0, 4), value=lm.vocab.pad)
    hidden = lm(lm.embed(padded_BT))[:, : ids_BT.shape[1]]
    torch.testing.assert_close(hidden, lm(lm.embed(ids_BT)), atol=1e-5, rtol=1e-4)


def batch_of(lm: CausalHF) -> Any:
    rng = np.random.default_rng(1)
    rows = [LabelledUnits(rng.integers(N_UNITS, size=n), label) for n, label in ((5, 0), (9, 1), (7, 2))]
    return collate(rows, np.arange(3), lm.vocab)


@pytest.mark.parametrize("kind", ["deep", "input"])
@pytest.mark.parametrize(
    ("verbalizer", "read"), [("learnable", "hidden"), ("learnable", "logits"), ("random", "hidden")]
)
def test_a_step_moves_every_prompt_tensor_and_no_bit_of_the_model(
    lm: CausalHF, kind: str, verbalizer: str, read: str
) -> None:
    prompted = build_prompted(
        lm, 3, PromptConfig(kind=kind, length=4, verbalizer=verbalizer, read=read)
    ).train()
    before, frozen = prompted.trainable_state(), lm.fingerprint()
    with torch.no_grad():
        prompted.loss(batch_of(lm))
    prompted.loss(batch_of(lm)).backward()
    torch.optim.SGD(prompted.trainable_parameters(), lr=1.0).step()
    after = prompted.trainable_state()
    for name in before:
        assert name == "verbalizer.ids" or not torch.equal(before[name], after[name]), name
    assert lm.fingerprint() == frozen
    assert all(parameter.grad is None for parameter in lm.parameters())
    config = PromptConfig(kind=kind, length=4, verbalizer=verbalizer, read=read)
    again = restore_prompted(lm, 3, config, after)
    torch.testing.assert_close(again.label_logits(batch_of(lm)), prompted.eval().label_logits(batch_of(lm)))


def test_save_and_load_keep_every_bit(lm: CausalHF, tmp_path: Path) -> None:
    lm.save(tmp_path / "lm")
    again = load_lm(tmp_path / "lm")
    assert isinstance(again, CausalHF)
    assert again.fingerprint() == lm.fingerprint()
    assert again.vocab.unit_ids.tolist() == lm.vocab.unit_ids.tolist()
    assert (again.vocab.start, again.vocab.eos) == (lm.vocab.start, lm.vocab.eos)
    lm.save(tmp_path / "lm", half=True)  # replaces
    half = load_lm(tmp_path / "lm")
    torch.testing.assert_close(half(half.embed(row(lm))), lm(lm.embed(row(lm))), atol=0.05, rtol=0.05)


def test_perplexity_counts_every_token_of_the_model(lm: CausalHF) -> None:
    units = np.random.default_rng(2).integers(N_UNITS, size=30)
    assert 1 < perplexity(lm, [units]) < 50 * len(lm.vocab)


def test_positions_beyond_the_model_are_refused(lm: CausalHF) -> None:
    assert lm.embed(row(lm, 63)).shape[1] == 64
    with pytest.raises(InputError, match="at most 64"):
        lm.embed(row(lm, 64))
    with pytest.raises(InputError, match="prompt rows"):
        lm(torch.zeros(1, 65, lm.token_embedding(torch.tensor(0)).shape[0]))


def slam_folder(folder: Path, *, tied: bool = True) -> Path:
    hf = random_hf("qwen2", vocab_size=N_UNITS + 2, tie_word_embeddings=tied)
    base = hf.config.to_dict()
    content = {"model_type": "speech_language_model", "base_config": base, "vocab_size": N_UNITS + 2}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    state = {
        f"lm.{name}": t for name, t in hf.state_dict().items() if not (tied and name == "lm_head.weight")
    }
    save_file(state, folder / "model.safetensors")
    return folder


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_slam_files_are_read_without_slams_code(tied: bool, tmp_path: Path) -> None:
    folder = slam_folder(tmp_path / "slam", tied=tied)
    hf = random_hf("qwen2", vocab_size=N_UNITS + 2, tie_word_embeddings=tied)
    lm = load_lm(folder)
    assert isinstance(lm, CausalHF)
    assert lm.vocab.n_units == N_UNITS
    assert lm.vocab.unit_ids.tolist() == list(range(2, N_UNITS + 2))
    assert (lm.vocab.start, lm.vocab.eos) == (1, 1)
    ids_BT = row(lm)
    torch.testing.assert_close(
        lm.logits(lm(lm.embed(ids_BT))), hf(input_ids=ids_BT).logits, atol=1e-5, rtol=1e-4
    )


def test_slam_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = slam_folder(tmp_path / "slam")
    weights = load_file(folder / "model.safetensors")
    for name in ("lm.model.norm.weight", "lm.model.embed_tokens.weight"):
        save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors")
        with pytest.raises(InputError, match="1 missing|2 missing"):
            load_lm(folder)
    save_file(weights | {"lm.surprise": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="surprise"):
        load_lm(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_lm(folder)


def test_unit_tokens_of_a_tokenizer_come_first(tmp_path: Path) -> None:
    folder = twist_folder(tmp_path / "hf", "qwen2")
    vocab = {f"<Un{unit}>": N_UNITS + OFFSET - 1 - unit for unit in range(N_UNITS)} | {"<PAD>": 0, "<S>": 1}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    lm = CausalHF.load(folder)
    assert lm.vocab.encode([0, 1, 19]).tolist() == [23, 22, 4]
    assert lm.vocab.decode([23, 4]).tolist() == [0, 19]
    with pytest.raises(InputError, match="token id 1"):
        lm.vocab.decode([1])


def test_fewer_units_than_tokens_may_be_asked_for(tmp_path: Path) -> None:
    folder = twist_folder(tmp_path / "hf", "opt")
    assert CausalHF.load(folder, n_units=15).vocab.n_units == 15
    with pytest.raises(InputError, match="25 units"):
        CausalHF.load(folder, n_units=25)


def test_text_models_are_not_taken_for_unit_models(tmp_path: Path) -> None:
    random_hf("opt").save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": {"0": 0, "1": 1, "a": 2}}})
    )
    with pytest.raises(InputError, match="unit tokens"):
        CausalHF.load(tmp_path / "hf")
    with pytest.raises(InputError, match="folder or hub name"):
        CausalHF.load(tmp_path / "nothing")


def test_ids_that_the_model_lacks_are_refused() -> None:
    for ids in ([0, 30], [3, 3], []):
        with pytest.raises(InputError, match="token ids"):
            CausalVocab(np.array(ids), 24, 1, 1)


def test_logits_that_are_bent_are_refused() -> None:
    hf = random_hf("llama")
    vocab = CausalVocab(np.arange(4, 24), 24, 1, 1)
    CausalHF(hf, vocab)
    hf.lm_head.register_forward_hook(lambda module, args, output: output.tanh())
    with pytest.raises(InputError, match="linear map"):
        CausalHF(hf, vocab)


@pytest.fixture(scope="module")
def causal_stack(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny stack with a language model in TWIST's format, more tokens than its codebook has units."""
    folder = tmp_path_factory.mktemp("causal") / "stack"
    shutil.copytree(tiny_stack, folder)
    shutil.rmtree(folder / "lm")
    model = random_hf("opt", vocab_size=100 + OFFSET + 9, offset=OFFSET, max_position_embeddings=1024)
    model.save_pretrained(folder / "lm")
    content = json.loads((folder / "stack.json").read_text())
    content["lm"]["family"] = "causal_hf"
    (folder / "stack.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("prompt", ["deep", "input"])
def test_the_commands_train_and_predict_with_it(
    prompt: str, causal_stack: Path, two_words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    command = [
        "train",
        "--task",
        "csv_classification",
        "--data",
        str(two_words),
        "--stack",
        str(causal_stack),
    ]
    assert run([*command, "--prompt", prompt, "--out", str(folder), "--max-epochs", "1"]) == 0
    assert run(["evaluate", str(folder), "--split", "test"]) == 0
    clip = next(two_words.glob("*.flac"))
    capsys.readouterr()
    assert run(["predict", str(folder), str(clip), "--json"]) == 0
    first = capsys.readouterr().out
    assert run(["predict", str(folder), str(clip), "--json"]) == 0
    assert capsys.readouterr().out == first


def test_the_commands_continue_speech_with_it(causal_stack: Path, two_words: Path, tmp_path: Path) -> None:
    clip = next(two_words.glob("*.flac"))
    command = ["continue", str(clip), "--stack", str(causal_stack), "--out", str(tmp_path / "more.wav")]
    assert run([*command, "--seed-s", "0.2", "--length-s", "0.3"]) == 0
    assert (tmp_path / "more.wav").is_file()


def test_it_says_that_it_cannot_be_rounded(causal_stack: Path) -> None:
    with pytest.raises(InputError, match="family causal_hf, got bf16"):
        _ = load_stack(causal_stack, precision="bf16").lm
