"""The classifier: what trains, what stays, and that its fast path equals the plain one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from speechprompt.batch import Batch, BucketedBatches, LabelledUnits
from speechprompt.lm.gslm import GSLM
from speechprompt.prompt import published_parameter_count, trainable_parameter_count
from speechprompt.prompted import PromptConfig, PromptedLM, build_prompted, restore_prompted
from speechprompt.vocab import UnitVocab
from units.errors import InputError

N_LABELS = 4
CONFIGS = [
    PromptConfig(kind, 5, verbalizer, read)
    for kind, (verbalizer, read) in itertools.product(
        ["deep", "input"],
        [("learnable", "logits"), ("learnable", "hidden"), ("random", "logits"), ("frequency", "logits")],
    )
]


def name_of(config: PromptConfig) -> str:
    return f"{config.kind}-{config.verbalizer}-{config.read}"


def build(lm: GSLM, config: PromptConfig) -> PromptedLM:
    return build_prompted(lm, N_LABELS, config, unit_counts=np.arange(20))


def make_batch(n_rows: int = 8, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    rows = [LabelledUnits(rng.integers(20, size=rng.integers(1, 15)), i % N_LABELS) for i in range(n_rows)]
    return batch_of(rows)


def batch_of(rows: list[LabelledUnits]) -> Batch:
    batches = BucketedBatches(rows, UnitVocab.from_n_units(20), batch_tokens=10_000, max_positions=64)
    return next(batches.in_order())


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@pytest.mark.parametrize("no_grad_pass_before", [False, True])
def test_one_step_moves_every_prompt_tensor_and_no_bit_of_the_language_model(
    config: PromptConfig, no_grad_pass_before: bool, lm: GSLM
) -> None:
    prompted = build(lm, config).train()
    frozen = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    before = prompted.trainable_state()
    batch = make_batch()
    if no_grad_pass_before:
        with torch.no_grad():
            prompted(batch)
        prompted.eval()(batch)
        prompted.train()
    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=5e-3)
    prompted.loss(batch).backward()
    optimizer.step()
    moved = {name for name, tensor in prompted.named_parameters() if not name.startswith("lm.")}
    expected = {"separator"} | ({"prompt.key", "prompt.value"} if config.kind == "deep" else {"prompt.input"})
    assert moved == expected | ({"verbalizer.weight"} if config.verbalizer == "learnable" else set())
    for name in moved:
        assert not torch.equal(prompted.trainable_state()[name], before[name]), name
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in lm.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.parameters())


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_reading_at_the_separator_equals_running_everything(config: PromptConfig, lm: GSLM) -> None:
    prompted, batch = build(lm, config).eval(), make_batch()
    fast_BN = prompted.label_logits(batch)
    for row, (ids_T, length) in enumerate(zip(batch.ids_BT, batch.lengths_B, strict=True)):
        x_BTD = lm.embed(ids_T[None, :length], separator=prompted.separator)
        rows_PD = prompted.prompt.rows()
        if rows_PD is not None:
            x_BTD = torch.cat([rows_PD[None], x_BTD], dim=1)
        hidden_BTD = lm(x_BTD, prefix=prompted.prompt.prefix(lm))
        expected = prompted.verbalizer(hidden_BTD[:, -1], lm)[0]
        torch.testing.assert_close(fast_BN[row], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["deep", "input"])
def test_a_row_s_scores_do_not_depend_on_its_batch(kind: str, lm: GSLM) -> None:
    prompted = build(lm, PromptConfig(kind)).eval()
    rng = np.random.default_rng(1)
    rows = [LabelledUnits(rng.integers(20, size=n)) for n in (2, 9, 40)]
    together = prompted.label_logits(batch_of(rows))
    for row, scores in zip(rows, together, strict=True):
        torch.testing.assert_close(prompted.label_logits(batch_of([row]))[0], scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_state_holds_the_prompt_alone_and_restores_it(config: PromptConfig, lm: GSLM) -> None:
    prompted = build(lm, config).eval()
    with torch.no_grad():
        for parameter in prompted.trainable_parameters():
            parameter += 0.1
    state = prompted.trainable_state()
    assert {name.split(".")[0] for name in state} == {"prompt", "separator", "verbalizer"}
    again = restore_prompted(lm, N_LABELS, PromptConfig(**config.to_dict()), state)
    batch = make_batch()
    with torch.no_grad():
        assert torch.equal(again(batch), prompted(batch))
    assert not again.training


def test_the_state_is_a_copy(lm: GSLM) -> None:
    prompted = build(lm, PromptConfig())
    state = prompted.trainable_state()
    with torch.no_grad():
        prompted.separator += 1
    assert not torch.equal(state["separator"], prompted.separator)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_a_state_of_another_prompt_is_refused_by_name(damage: str, lm: GSLM) -> None:
    prompted = build(lm, PromptConfig())
    state = prompted.trainable_state()
    if damage == "missing":
        del state["prompt.key"]
    elif damage == "extra":
        state["prompt.key2"] = torch.zeros(1)
    else:
        state["prompt.key"] = state["prompt.key"][:, :3]
    with pytest.raises(InputError, match=r"prompt\.key"):
        prompted.load_trainable_state(state)


def test_counts_separate_trained_from_frozen(lm: GSLM) -> None:
    prompted = build(lm, PromptConfig("deep", 5, "learnable", read="logits"))
    prompt_and_separator = trainable_parameter_count("deep", 5, lm.n_layers, lm.d_model)
    assert prompted.n_trainable == prompt_and_separator + N_LABELS * len(lm.vocab)
    from_hidden = build(lm, PromptConfig("deep", 5, "learnable", read="hidden"))
    assert from_hidden.n_trainable == prompt_and_separator + N_LABELS * lm.d_model
    assert prompted.n_frozen == lm.n_parameters()
    assert published_parameter_count(5, lm.n_layers, lm.d_model) == prompt_and_separator + 5 * lm.d_model
    assert build(lm, PromptConfig("deep", 5, "random")).n_trainable == prompt_and_separator


def test_the_language_model_stays_in_evaluation_mode_while_the_prompt_trains(lm: GSLM) -> None:
    prompted = build(lm.train(), PromptConfig()).train()
    assert prompted.training
    assert prompted.prompt.training
    assert not any(module.training for module in lm.modules())
    assert not prompted.eval().prompt.training


def test_bfloat16_trains_and_scores_in_float32(lm: GSLM) -> None:
    prompted, batch = build(lm, PromptConfig()).eval(), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        rough = prompted(batch)
        prompted.loss(batch).backward()
    assert rough.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prompted.trainable_parameters())
    with torch.no_grad():
        assert (rough - prompted(batch)).abs().max() < 0.5


def planted_rows(seed: int) -> list[LabelledUnits]:
    """Rows of six units, four from the label's own half of the inventory, two from anywhere."""
    rng = np.random.default_rng(seed)
    return [
        LabelledUnits(
            rng.permutation(np.append(rng.integers(10, size=4) + 10 * label, rng.integers(20, size=2))), label
        )
        for label in (0, 1) * 64
    ]


def test_a_prompt_learns_a_planted_rule_and_holds_to_it_on_new_rows(lm: GSLM) -> None:
    prompted = build_prompted(lm, 2, PromptConfig("deep", 5, "learnable", "hidden")).train()
    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=2e-2)
    torch.manual_seed(0)
    batch = batch_of(planted_rows(0))
    for _ in range(60):
        optimizer.zero_grad()
        prompted.loss(batch).backward()
        optimizer.step()
    new = batch_of(planted_rows(1))
    assert float((prompted.eval()(new).argmax(1) == new.labels_B).float().mean()) > 0.8


def test_seeds_give_equal_classifiers(lm: GSLM) -> None:
    states = [build(lm, PromptConfig(seed=seed)).trainable_state() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(
        torch.equal(states[0][name], states[2][name]) for name in ("prompt.key", "verbalizer.weight")
    )
