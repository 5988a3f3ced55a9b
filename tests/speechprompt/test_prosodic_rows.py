"""Prompts on pGSLM: rows are read as in training, whatever is put into them, and labels may depend on pitch alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.batch import Batch, LabelledUnits, collate
from speechprompt.classifier import build_classifier
from speechprompt.label_logits import label_logits
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_speech import prosodic_row, relative_f0
from speechprompt.lm.pgslm_streams import Streams, delayed, utterance_streams
from speechprompt.lm.prosody import ProsodyConfig, f0_bins, known_edges
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import build_prompted
from speechprompt.read_rows import prosody_of, unit_numbers
from speechprompt.reading import with_separators
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective
from speechprompt.training import unit_counts
from speechprompt.vocab import UnitsFirstVocab
from tests.speechprompt.conftest import random_lm
from units.errors import InputError
from units.types import UnitSequence, UnitSpec

N_UNITS = 10
VOCAB = UnitsFirstVocab(N_UNITS)
EDGES = (-0.4, -0.1, 0.0, 0.15, 0.5)
KINDS = {
    "classes": ProsodyConfig(
        discrete_duration=True, discrete_f0=True, n_f0_bins=6, max_duration=5, f0_edges=EDGES
    ),
    "numbers": ProsodyConfig(),
    "bins beside numbers": ProsodyConfig(discrete_f0=True, n_f0_bins=6, f0_edges=EDGES),
}
DELAYS = [(0, 0), (1, 1), (1, 2), (2, 0)]
SPEC = UnitSpec("planted", 0, N_UNITS, 50.0, "0" * 12)


def small_lm(prosody: ProsodyConfig) -> PGSLM:
    lm = PGSLM(TransformerConfig(2, 32, 4, 48, max_positions=64), VOCAB, prosody).initialise(3)
    lm.freeze()
    return lm


def random_row(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((n, seed))
    return np.column_stack([rng.integers(N_UNITS, size=n), rng.integers(1, 9, n), rng.normal(0, 0.3, n)])


def batch_of(lengths: list[int]) -> Batch:
    rows = [LabelledUnits(random_row(n), i % 2) for i, n in enumerate(lengths)]
    return collate(rows, np.arange(len(rows)), VOCAB)


def read_as_in_training(lm: PGSLM, row: np.ndarray, n_ends: int) -> Tensor:
    """Final hidden states (1, 1 + T + n_ends, D) over `<s> u1 .. un` and so many `</s>`."""
    prosody = lm.prosody
    tokens = np.append(VOCAB.encode(unit_numbers(row)), [VOCAB.eos] * n_ends)
    durations = np.append(row[:, 1], [0] * n_ends).astype(np.int64)
    f0 = np.append(row[:, 2], [0] * n_ends).astype(np.float32)
    stream = f0_bins(f0, known_edges(prosody)) if prosody.discrete_f0 else f0
    shifted, _ = delayed(utterance_streams(tokens, durations, stream, VOCAB, prosody), VOCAB, prosody)
    whole = Streams(shifted.tokens[None], shifted.durations[None], shifted.f0[None])
    said = lm.read(whole)
    hidden = lm(lm.embed(whole.tokens, durations_BT=whole.durations, f0_BT=whole.f0))
    torch.testing.assert_close(lm.stream_logits(hidden).f0, said.f0)  # that is what `read` reads
    return hidden[:, : 1 + len(tokens)]


@pytest.mark.parametrize("n_separators", [1, 3])
@pytest.mark.parametrize("delays", DELAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_prompt_is_read_as_in_training(
    kind: str, delays: tuple[int, int], n_separators: int
) -> None:
    lm = small_lm(replace(KINDS[kind], duration_delay=delays[0], f0_delay=delays[1]))
    lengths = [5, 1, 9]
    batch = batch_of(lengths)
    ids_BT, _ = with_separators(batch.ids_BT, batch.lengths_B, n_separators, VOCAB)
    as_end = lm.token_embedding(torch.tensor(VOCAB.eos))  # a separator that is `</s>` itself
    hidden_BTD = lm(lm.embed_rows(ids_BT, batch.prosody_BT2, separator=as_end))
    for hidden_TD, n in zip(hidden_BTD, lengths, strict=True):
        [expected_TD] = read_as_in_training(lm, random_row(n), n_separators)
        torch.testing.assert_close(hidden_TD[: len(expected_TD)], expected_TD, rtol=1e-5, atol=1e-5)


def test_the_last_unit_s_pitch_reaches_a_separator_that_comes_after_its_delay() -> None:
    row = random_row(6)
    other = row.copy()
    other[-1, 2] += 1
    for f0_delay, n_separators, heard in [(0, 1, True), (1, 1, True), (2, 1, False), (2, 2, True)]:
        lm = small_lm(replace(KINDS["numbers"], f0_delay=f0_delay))
        prompted = build_prompted(lm, 2, PromptConfig(length=2, n_separators=n_separators)).eval()
        with torch.no_grad():
            one, two = (
                prompted.label_logits(collate([LabelledUnits(r)], np.arange(1), VOCAB)) for r in (row, other)
            )
        assert torch.equal(one, two) != heard


CONFIGS = {
    "deep": PromptConfig(length=3),
    "input": PromptConfig(kind="input", length=3, pool="mean"),
    "separators": PromptConfig(length=3, n_separators=2),
    "infix": PromptConfig(kind="input", length=2, infix_length=2),
    "deep infix": PromptConfig(length=0, infix_length=3),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_prompt_finds_rows_as_they_are_and_is_trained_by_their_prosody(
    kind: str, config: PromptConfig
) -> None:
    lm = small_lm(replace(KINDS[kind], duration_delay=1, f0_delay=1))
    prompted, batch = build_prompted(lm, 2, config), batch_of([5, 9, 3])
    x_BSD, _, column_BT = prompted.eval()._inputs(batch.ids_BT, None, batch.prosody_BT2)
    rows_BTD = x_BSD.gather(1, column_BT[:, :, None].expand(-1, -1, lm.d_model))
    expected_BTD = lm.embed_rows(batch.ids_BT, batch.prosody_BT2, separator=prompted.separator)
    assert torch.equal(rows_BTD, expected_BTD)
    assert not torch.equal(rows_BTD, lm.embed(batch.ids_BT, separator=prompted.separator))

    def gradients(batch: Batch) -> list[Tensor]:
        prompted.zero_grad()
        prompted.loss(batch).backward()
        return [p.grad.clone() for p in prompted.trainable_parameters() if p.grad is not None]

    pairs = zip(gradients(batch), gradients(replace(batch, prosody_BT2=None)), strict=True)
    moved = [not torch.allclose(one, other) for one, other in pairs]
    dead = 1 if config is CONFIGS["deep infix"] else 0  # rows whose keys and values are others
    assert sum(moved) == len(prompted.trainable_parameters()) - dead
    alone = [batch_of([5]), batch_of([9])]
    with torch.no_grad():
        together_BN = prompted.label_logits(batch)
        torch.testing.assert_close(together_BN[:1], prompted.label_logits(alone[0]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together_BN[1:2], prompted.label_logits(alone[1]), rtol=1e-4, atol=1e-5)


def rising_or_falling(n: int, seed: int) -> list[LabelledUnits]:
    """Rows whose units and durations are random, and whose label says whether their pitch rises."""
    rows = []
    for i in range(n):
        row = random_row(int(np.random.default_rng((seed, i)).integers(5, 12)), seed=seed + i)
        slope = np.linspace(-1, 1, len(row)) * (1 if i % 2 else -1)
        row[:, 2] = slope + row[:, 2]
        rows.append(LabelledUnits(row, i % 2))
    return rows


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_labels_that_only_pitch_tells_are_learnt_where_it_is_read(kind: str) -> None:
    prosody = replace(KINDS[kind], duration_delay=1, f0_delay=1)
    train, valid = rising_or_falling(160, 0), rising_or_falling(100, 1000)

    def learnt(train: list[LabelledUnits], valid: list[LabelledUnits]) -> float:
        prompted = build_prompted(small_lm(prosody), 2, PromptConfig(length=3))
        objective = LabelObjective(prompted, train, valid, TrainConfig())
        optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
        for batch in itertools.chain.from_iterable(map(objective.batches.epoch, range(12))):
            optimizer.zero_grad()
            objective.loss(prompted.train()(batch), batch).backward()
            optimizer.step()
        predicted = label_logits(prompted, objective.valid_batches).argmax(1)
        return predicted.eq(objective.valid_labels_V).double().mean().item()

    def without(rows: list[LabelledUnits]) -> list[LabelledUnits]:
        return [LabelledUnits(unit_numbers(row.units), row.label) for row in rows]

    assert learnt(train, valid) > 0.85
    assert learnt(without(train), without(valid)) < 0.7


def test_slots_side_by_side_hear_pitch_and_one_after_the_other_are_refused() -> None:
    lm, labels = small_lm(KINDS["classes"]), ("on|lights", "on|music", "off|lights")
    prompted = build_classifier(lm, labels, PromptConfig(length=2, slots="parallel")).eval()
    batch = batch_of([5, 8])
    with torch.no_grad():
        heard = prompted.label_logits(batch)
        assert not torch.allclose(heard, prompted.label_logits(replace(batch, prosody_BT2=None)))
    with pytest.raises(InputError, match="joint or parallel for pgslm"):
        build_classifier(lm, labels, PromptConfig(length=2, slots="sequential"))


def test_a_row_holds_units_durations_and_relative_pitch() -> None:
    f0 = np.repeat(np.array([100, 0, 200], dtype=np.float32), (2, 1, 3))
    frames = UnitSequence(np.array([7, 7, 2, 9, 9, 9]), SPEC, None, f0)
    row = prosodic_row(frames.deduplicate(), ProsodyConfig())
    assert row.dtype == np.float64
    assert unit_numbers(row).tolist() == [7, 2, 9] == unit_numbers(np.array([7, 2, 9])).tolist()
    assert unit_numbers(row).dtype == np.int64
    assert prosody_of(row)[:, 0].tolist() == [2, 1, 3]
    np.testing.assert_array_equal(prosody_of(row)[:, 1], relative_f0(frames.deduplicate(), ProsodyConfig()))
    assert prosodic_row(frames, ProsodyConfig())[:, 1].tolist() == [1] * 6  # one unit for every frame
    rows = [LabelledUnits(row), LabelledUnits(row[:1])]
    assert unit_counts(rows, N_UNITS).tolist() == [0, 0, 1, 0, 0, 0, 0, 2, 0, 1]


def test_prosody_that_cannot_be_read_is_refused() -> None:
    batch = batch_of([4])
    with pytest.raises(InputError, match="units alone, which gslm reads"):
        random_lm().embed_rows(batch.ids_BT, batch.prosody_BT2)
    lost = small_lm(replace(KINDS["classes"], f0_edges=None))
    for read in (lambda: lost.reads_prosody, lambda: lost.embed_rows(batch.ids_BT, batch.prosody_BT2)):
        with pytest.raises(InputError, match="borders"):
            read()
    deaf = small_lm(replace(KINDS["classes"], f0_edges=None, f0_input=False))
    assert deaf.reads_prosody  # durations
    assert deaf.embed_rows(batch.ids_BT, batch.prosody_BT2).isfinite().all()
    assert not small_lm(replace(deaf.prosody, duration_input=False)).reads_prosody
    assert F.mse_loss(  # and it hears durations, no F0
        deaf.embed_rows(batch.ids_BT, batch.prosody_BT2), deaf.embed(batch.ids_BT)
    )
