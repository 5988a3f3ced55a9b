"""What a prompt may start as, and where labels may be read: the options beyond the published ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechprompt.batch import Batch, LabelledUnits, collate
from speechprompt.convert.prompt_export import export_v2
from speechprompt.evaluation import predict
from speechprompt.lm.gslm import GSLM
from speechprompt.prompt import DeepPrompt, InputPrompt, make_prompt
from speechprompt.prompted import PromptConfig, PromptedLM, build_prompted, restore_prompted
from speechprompt.run import load_run
from speechprompt.run_record import read_record
from speechprompt.train_config import TrainConfig
from speechprompt.training import train
from units.errors import InputError

N_LABELS = 4
OPTIONS = [
    {"n_separators": 3},
    {"pool": "mean"},
    {"length_normalization": True},
    {"n_separators": 2, "pool": "mean", "length_normalization": True},
    {"kind": "none", "length": 0},
    {"kind": "none", "length": 0, "n_separators": 2, "pool": "mean"},
]


def build(lm: GSLM, **options: object) -> PromptedLM:
    return build_prompted(lm, N_LABELS, PromptConfig(**{"length": 3, **options})).eval()  # type: ignore[arg-type]


def batch_of(lm: GSLM, rows: Sequence[Sequence[int]]) -> Batch:
    return collate([LabelledUnits(np.array(row), 0) for row in rows], np.arange(len(rows)), lm.vocab)


ROWS = [[3, 1, 4, 1, 5, 9], [2, 6], [5, 3, 5, 8, 9, 7, 9, 3]]


@torch.no_grad()
def test_the_plain_settings_are_read_at_the_separator_alone(lm: GSLM) -> None:
    prompted, batch = build(lm), batch_of(lm, ROWS)
    hidden_BSD, column_BT = prompted.hidden(batch.ids_BT)
    last_B = column_BT.gather(1, (batch.lengths_B - 1)[:, None])[:, 0]
    at_separator_BD = hidden_BSD[torch.arange(len(ROWS)), last_B]
    expected = F.linear(at_separator_BD, prompted.verbalizer.weight)
    torch.testing.assert_close(prompted.label_logits(batch), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["deep", "input"])
def test_neighbours_and_padding_change_nothing(kind: str, options: dict, lm: GSLM) -> None:
    prompted = build(lm, **{"kind": kind, **options})
    together = prompted.label_logits(batch_of(lm, ROWS))
    for row, scores_N in zip(ROWS, together, strict=True):
        alone = prompted.label_logits(batch_of(lm, [row]))[0]
        torch.testing.assert_close(alone, scores_N, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["deep", "input"])
def test_the_mean_is_that_of_all_tokens_of_the_row(kind: str, lm: GSLM) -> None:
    prompted = build(lm, kind=kind, pool="mean")
    [row] = ROWS[:1]
    batch = batch_of(lm, [row])
    hidden_BSD, column_BT = prompted.hidden(batch.ids_BT)
    assert column_BT.shape[1] == len(row) + 2
    expected = F.linear(hidden_BSD[0, column_BT[0]].mean(0), prompted.verbalizer.weight)
    torch.testing.assert_close(prompted.label_logits(batch)[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_separator_has_an_embedding_and_a_position_of_its_own(lm: GSLM) -> None:
    prompted, batch = build(lm, n_separators=3, kind="none", length=0), batch_of(lm, [ROWS[0]])
    ids = torch.cat([batch.ids_BT, torch.full((1, 2), lm.vocab.bos)], dim=1)
    embedded = lm.embed(ids, separator=torch.zeros(lm.d_model))
    vectors = [prompted.separator, *prompted.further_separators]
    for column, vector in enumerate(vectors, start=ids.shape[1] - 3):
        embedded[0, column] += lm.embed_scale * vector
    expected = F.linear(lm(embedded)[0, -3:].mean(0), prompted.verbalizer.weight)
    torch.testing.assert_close(prompted.label_logits(batch)[0], expected, atol=1e-5, rtol=1e-5)
    assert len({tuple(vector.tolist()) for vector in vectors}) == 3


@torch.no_grad()
def test_normalised_readings_have_one_length_and_keep_their_direction(lm: GSLM) -> None:
    plain, scaled = build(lm, pool="mean"), build(lm, pool="mean", length_normalization=True)
    eye = torch.eye(lm.d_model)
    for prompted in (plain, scaled):
        prompted.verbalizer.weight = torch.nn.Parameter(eye)  # what is read, as it is
    before, after = (prompted.label_logits(batch_of(lm, ROWS)) for prompted in (plain, scaled))
    torch.testing.assert_close(after.square().mean(1), torch.ones(len(ROWS)))
    torch.testing.assert_close(F.cosine_similarity(before, after), torch.ones(len(ROWS)))
    assert before.square().mean(1).std() > 1e-3


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_everything_trains_is_saved_and_read_back(options: dict, lm: GSLM) -> None:
    prompted, batch = build(lm, **options).train(), batch_of(lm, ROWS)
    before, frozen = prompted.trainable_state(), lm.fingerprint()
    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=1e-2)
    prompted.loss(batch).backward()
    optimizer.step()
    state = prompted.eval().trainable_state()
    assert all(not torch.equal(state[name], before[name]) for name in before)
    assert ("further_separators" in state) == (options.get("n_separators", 1) > 1)
    assert not any(name.startswith("prompt.") for name in state) or options.get("kind") != "none"
    assert lm.fingerprint() == frozen
    config = PromptConfig(**{"length": 3, **options})
    restored = restore_prompted(lm, N_LABELS, dataclasses.replace(config, init="frequent"), state)
    assert torch.equal(restored.label_logits(batch), prompted.label_logits(batch))


def test_a_row_leaves_room_for_its_separators(lm: GSLM) -> None:
    prompted = build(lm, n_separators=3)
    assert prompted.max_tokens == lm.max_positions - 2
    longest = np.arange(prompted.max_tokens - 2) % 20
    with torch.no_grad():
        assert prompted.label_logits(batch_of(lm, [longest])).isfinite().all()
        with pytest.raises(InputError, match="expected at most 64"):
            prompted.label_logits(batch_of(lm, [[*longest, 1]]))


def test_frequent_units_are_what_a_prompt_starts_as(lm: GSLM) -> None:
    counts = np.zeros(20, dtype=np.int64)
    counts[[7, 2, 11]] = [30, 50, 30]
    prompt = make_prompt("input", 3, lm, init="frequent", unit_counts=counts)
    assert isinstance(prompt, InputPrompt)
    expected = lm.embed_scale * lm.token_embedding(torch.from_numpy(lm.vocab.encode(np.array([2, 7, 11]))))
    torch.testing.assert_close(prompt.input.detach(), expected.detach())
    deep = make_prompt("deep", 25, lm, init="frequent", unit_counts=counts, seed=3)
    assert (
        isinstance(deep, DeepPrompt) and deep.key.shape[1] == 25
    )  # more positions than units: they begin again
    same = make_prompt("deep", 25, lm, init="frequent", unit_counts=counts, seed=4)
    assert isinstance(same, DeepPrompt) and torch.equal(deep.key, same.key)
    with pytest.raises(InputError, match="counts"):
        make_prompt("deep", 3, lm, init="frequent")


@pytest.mark.parametrize("kind", ["deep", "input"])
def test_normal_vectors_have_the_size_of_what_units_give(kind: str, lm: GSLM) -> None:
    units, normal, other = (
        make_prompt(kind, 40, lm, init=init, seed=seed).state_dict()
        for init, seed in (("units", 0), ("normal", 0), ("normal", 1))
    )
    for name in units:
        size = [x[name].square().mean((-2, -1)).sqrt() for x in (units, normal)]
        torch.testing.assert_close(size[0], size[1], rtol=0.15, atol=0)
        assert abs(F.cosine_similarity(units[name].flatten(), normal[name].flatten(), dim=0)) < 0.2
        assert not torch.equal(normal[name], other[name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"init": "zeros"}, "init"), ({"pool": "max"}, "pool"), ({"n_separators": 0}, "n_separators")],
)
def test_unknown_options_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}: expected .*, got "):
        PromptConfig(**wrong)


def test_runs_keep_the_options_and_v2_refuses_them_by_name(
    two_words: Path, tiny_stack: Path, tmp_path: Path
) -> None:
    options = PromptConfig(length=2, init="frequent", n_separators=2, pool="mean", length_normalization=True)
    config = TrainConfig(max_epochs=1, speed_perturbation=())
    run = train(
        "csv_classification",
        tiny_stack,
        tmp_path / "run",
        data=two_words,
        config=config,
        prompt_config=options,
    )
    assert PromptConfig(**read_record(run.folder).prompt) == options
    clip = sorted(two_words.glob("*.flac"))[0]
    assert predict(load_run(run.folder), clip) == predict(run, clip)
    for name, value in (("n_separators", 2), ("pool", "mean"), ("length_normalization", True)):
        prompt = PromptConfig(**{name: value}).to_dict()
        only = dataclasses.replace(run, record=dataclasses.replace(run.record, prompt=prompt))
        with pytest.raises(InputError, match=f"expected {name} .*, got {value}"):
            export_v2(only, tmp_path / "v2.pt")
    assert not (tmp_path / "v2.pt").exists()
