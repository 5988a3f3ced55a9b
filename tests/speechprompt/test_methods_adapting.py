"""LoRA and fine-tuning inside: which weights train, which are shared, in every family of language models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from speechprompt.batch import Batch, LabelledUnits, collate
from speechprompt.lm.base import UnitLM
from speechprompt.lm.causal_hf import CausalHF
from speechprompt.lm.causal_units import CausalVocab
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.methods import MethodError, finetune
from speechprompt.methods.finetune import learning_rates
from speechprompt.methods.lora import LoraSettings, add_lora
from speechprompt.prompted import PromptConfig, PromptedLM, build_prompted
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective
from speechprompt.vocab import UnitVocab

N_UNITS, N_LAYERS, WIDTH = 20, 2, 32
FAMILIES = ["gslm", "opt", "qwen2", "gpt2"]
SIZES = {
    "opt": {"ffn_dim": 48, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "hidden_size": WIDTH},
    "qwen2": {
        "intermediate_size": 48,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": WIDTH,
    },
    "gpt2": {"n_embd": WIDTH, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 64},
}


def language_model(family: str, *, tied: bool = True) -> UnitLM:
    torch.manual_seed(0)
    if family == "gslm":
        config = TransformerConfig(N_LAYERS, WIDTH, n_heads=4, d_ffn=48, max_positions=64, tied=tied)
        return GSLM(config, UnitVocab.from_n_units(N_UNITS)).initialise().eval().freeze()
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "max_position_embeddings": 64}
    config = AutoConfig.for_model(family, vocab_size=N_UNITS + 4, **special, **SIZES[family])
    hf = AutoModelForCausalLM.from_config(config).eval()
    return CausalHF(hf, CausalVocab(np.arange(4, N_UNITS + 4), N_UNITS + 4, 1, 1)).freeze()


def plain(lm: UnitLM, **options: object) -> PromptedLM:
    return build_prompted(lm, 3, PromptConfig(kind="none", length=0, **options))  # type: ignore[arg-type]


def rows() -> list[LabelledUnits]:
    rng = np.random.default_rng(0)
    return [LabelledUnits(rng.integers(N_UNITS, size=5 + i), i % 3) for i in range(6)]


def batch_of(lm: UnitLM) -> Batch:
    return collate(rows(), np.arange(6), lm.vocab)


def step(prompted: PromptedLM) -> None:
    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=1e-2)
    for _ in range(2):  # one factor of a LoRA change begins as zeros: the other moves in the second step
        optimizer.zero_grad()
        prompted.train().loss(batch_of(prompted.lm)).backward()
        optimizer.step()
    prompted.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_changes_nothing_at_first_then_everything_of_its_own_and_nothing_else(family: str) -> None:
    lm = language_model(family)
    values = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    modules = [name for name, _ in lm.named_modules()]
    before_BN = plain(lm).eval().label_logits(batch_of(lm))
    adapted = lm.shared_copy()
    prompted = plain(adapted)
    add_lora(prompted.lm, LoraSettings(rank=4), seed=0)
    assert torch.equal(prompted.eval().label_logits(batch_of(lm)), before_BN)
    own = {name for name, p in prompted.named_parameters() if p.requires_grad and name.startswith("lm.")}
    assert own and all(".lora_A." in name or ".lora_B." in name for name in own)
    assert prompted.trainable_state().keys() == own | {"separator", "verbalizer.weight"}
    shared = {p.data_ptr() for p in lm.parameters()}
    copied = [
        p for name, p in prompted.lm.named_parameters() if not p.requires_grad and p.data_ptr() not in shared
    ]
    assert not copied, "the language model's weights are shared, not copied"
    start = prompted.trainable_state()
    step(prompted)
    state = prompted.trainable_state()
    assert all(not torch.equal(state[name], start[name]) for name in state)
    assert not torch.equal(prompted.label_logits(batch_of(lm)), before_BN)
    assert [name for name, _ in lm.named_modules()] == modules
    assert all(torch.equal(tensor, values[name]) for name, tensor in lm.state_dict().items())
    assert not any(parameter.requires_grad for parameter in lm.parameters())

    again = plain(lm.shared_copy())
    add_lora(again.lm, LoraSettings(rank=4), seed=5)
    again.load_trainable_state(state)
    assert torch.equal(again.eval().label_logits(batch_of(lm)), prompted.label_logits(batch_of(lm)))


def test_lora_counts_and_targets() -> None:
    lm = language_model("gslm")
    verbalizer_and_separator = 3 * WIDTH + WIDTH
    for settings, n_changes in (
        (LoraSettings(rank=4), 2),
        (LoraSettings(rank=2, targets=("q_proj", "k_proj", "v_proj", "out_proj")), 4),
    ):
        prompted = plain(lm.shared_copy())
        add_lora(prompted.lm, settings, seed=0)
        expected = N_LAYERS * n_changes * settings.rank * 2 * WIDTH
        assert prompted.n_trainable == expected + verbalizer_and_separator
        assert prompted.n_frozen == lm.n_parameters()
    with pytest.raises(MethodError, match="got query; choose out of fc1, fc2, k_proj"):
        add_lora(lm.shared_copy(), LoraSettings(targets=("query",)), seed=0)
    with pytest.raises(MethodError, match="rank"):
        add_lora(lm.shared_copy(), LoraSettings(rank=0), seed=0)


def test_lora_draws_by_its_seed_and_leaves_the_callers_numbers() -> None:
    states = []
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    for seed in (0, 0, 1):
        prompted = plain(language_model_of(0).shared_copy())
        add_lora(prompted.lm, LoraSettings(), seed)
        states.append(torch.cat([p.flatten() for n, p in prompted.lm.named_parameters() if "lora_A" in n]))
    torch.manual_seed(7)
    add_lora(language_model_of(0).shared_copy(), LoraSettings(), 3)
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert torch.equal(torch.rand(1), expected)


def language_model_of(seed: int) -> UnitLM:
    config = TransformerConfig(N_LAYERS, WIDTH, n_heads=4, d_ffn=48, max_positions=64)
    with torch.random.fork_rng():
        return GSLM(config, UnitVocab.from_n_units(N_UNITS)).initialise(seed).eval().freeze()


def unfreeze(prompted: PromptedLM, lm_dropout: float) -> None:
    finetune.unfreeze(LabelObjective(prompted, rows(), rows(), TrainConfig()), lm_dropout)


@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_moves_every_weight_that_reaches_a_label(family: str) -> None:
    lm = language_model(family)
    fingerprint = lm.fingerprint()
    prompted = plain(copy.deepcopy(lm))
    unfreeze(prompted, lm_dropout=0.1)
    assert not any(parameter.grad is not None for parameter in prompted.parameters())
    trained = {name for name, p in prompted.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in prompted.named_parameters()}
    step(prompted)
    moved = {name for name, p in prompted.named_parameters() if not torch.equal(p, start[name])}
    # A key's bias adds the same to all scores of a query, which softmax does not see: rounding alone may move it.
    assert trained - moved <= {name for name in trained if name.endswith("k_proj.bias")}
    assert moved <= trained
    assert prompted.n_trainable > 0.9 * lm.n_parameters()
    assert lm.fingerprint() == fingerprint and not any(p.requires_grad for p in lm.parameters())

    again = plain(copy.deepcopy(lm))
    unfreeze(again, lm_dropout=0.1)
    again.load_trainable_state(prompted.trainable_state())
    assert torch.equal(again.eval().label_logits(batch_of(lm)), prompted.label_logits(batch_of(lm)))


def test_weights_that_reach_no_label_are_left_out() -> None:
    lm = language_model("gslm", tied=False)
    hidden, logits = plain(copy.deepcopy(lm), read="hidden"), plain(copy.deepcopy(lm), read="logits")
    for prompted in (hidden, logits):
        unfreeze(prompted, lm_dropout=0.0)
    assert "lm.output_projection.weight" not in hidden.trainable_state()
    assert "lm.output_projection.weight" in logits.trainable_state()


def test_dropout_is_the_settings_and_only_in_training() -> None:
    prompted = plain(copy.deepcopy(language_model("gslm")), verbalizer_dropout=0.0)
    unfreeze(prompted, lm_dropout=0.5)
    batch = batch_of(prompted.lm)
    with torch.no_grad():
        torch.manual_seed(0)
        assert not torch.equal(prompted.train().label_logits(batch), prompted.label_logits(batch))
        assert torch.equal(prompted.eval().label_logits(batch), prompted.label_logits(batch))
    unfreeze(prompted, lm_dropout=0.0)
    with torch.no_grad():
        assert torch.equal(prompted.train().label_logits(batch), prompted.eval().label_logits(batch))


def test_the_published_rate_belongs_to_the_published_width() -> None:
    lm = language_model("gslm")
    assert learning_rates(lm)[-1] == pytest.approx(5e-4 * (1024 / WIDTH) ** 0.5, rel=0.02)
    lm.d_model = 1024
    assert learning_rates(lm) == [1.3e-4, 5e-4]


def test_several_separators_and_means_work_in_every_family() -> None:
    for family in FAMILIES:
        lm = language_model(family)
        prompted = plain(lm, n_separators=2, pool="mean").eval()
        with torch.no_grad():
            together = prompted.label_logits(batch_of(lm))
            for i, row in enumerate(rows()):
                alone = prompted.label_logits(collate([row], np.arange(1), lm.vocab))[0]
                torch.testing.assert_close(alone, together[i], atol=1e-5, rtol=1e-5)
