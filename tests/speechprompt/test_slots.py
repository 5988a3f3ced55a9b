"""Labels of several slots, value after value and all at once, against what the definition says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.batch import BucketedBatches, LabelledUnits
from speechprompt.checkpoint import PROMPT_FILE, begin_run, load_prompt
from speechprompt.classifier import build_classifier, label_objective, restore_classifier
from speechprompt.label_logits import label_logits
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.prompt_config import PromptConfig
from speechprompt.run_record import RunRecord, read_record
from speechprompt.slots.prompted import ParallelSlots, PromptedSlots, SequentialSlots
from speechprompt.slots.values import SlotValues
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from speechprompt.training_log import read_log
from speechprompt.vocab import UnitVocab
from units.errors import InputError
from units.types import UnitSpec

N_UNITS = 20
LABELS = ("on|lights|none", "on|music|none", "off|lights|kitchen", "off|lights|none", "up|heat|kitchen")
KINDS = [
    ("deep", "learnable", "hidden", 0),
    ("deep", "random", "hidden", 0),
    ("input", "learnable", "logits", 0),
]
WITH_INFIX = [*KINDS, ("input", "learnable", "hidden", 2), ("infix", "frequency", "hidden", 3)]


def model(
    way: str,
    kind: str = "deep",
    verbalizer: str = "learnable",
    read: str = "hidden",
    infix: int = 0,
    labels: tuple[str, ...] = LABELS,
) -> PromptedSlots:
    transformer = TransformerConfig(n_layers=2, d_model=32, n_heads=2, d_ffn=64, max_positions=40)
    lm = GSLM(transformer, UnitVocab.from_n_units(N_UNITS)).initialise(seed=1)
    config = PromptConfig(
        kind="deep" if kind == "infix" else kind,
        length=0 if kind == "infix" else 4,
        verbalizer=verbalizer,
        read=read,
        infix_length=infix,
        slots=way,
    )
    prompted = build_classifier(lm, labels, config, unit_counts=np.arange(N_UNITS))
    assert isinstance(prompted, PromptedSlots)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # so that no two values are alike and none is certain
        for parameter in prompted.trainable_parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return prompted.eval()


def some_rows(n: int = 9, seed: int = 0) -> list[LabelledUnits]:
    rng = np.random.default_rng(seed)
    return [
        LabelledUnits(rng.integers(N_UNITS, size=int(rng.integers(1, 25))), int(rng.integers(len(LABELS))))
        for _ in range(n)
    ]


def batches(prompted: PromptedSlots, rows: list[LabelledUnits], budget: int = 4096) -> BucketedBatches:
    return BucketedBatches(rows, prompted.lm.vocab, batch_tokens=budget, max_positions=prompted.max_tokens)


def test_values_are_numbered_slot_after_slot_and_beginnings_shared() -> None:
    slots = SlotValues.from_labels(LABELS)
    assert slots.values == (("on", "off", "up"), ("lights", "music", "heat"), ("none", "kitchen"))
    assert slots.choice_NK.tolist() == [[0, 3, 6], [0, 4, 6], [1, 3, 7], [1, 3, 6], [2, 5, 7]]
    distinct, which = slots.beginnings(2)
    assert distinct.tolist() == [[0, 3], [0, 4], [1, 3], [2, 5]]
    assert which.tolist() == [0, 1, 2, 2, 3]
    same = SlotValues.from_labels(["on|on", "off|on"])
    assert same.choice_NK.tolist() == [[0, 2], [1, 2]], "a word that two slots share is a value of both"


@pytest.mark.parametrize("labels", [("on", "off"), ("a|b", "a|b|c")])
def test_labels_without_slots_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="slots=joint"):
        SlotValues.from_labels(labels)


def test_settings_that_slots_have_no_use_for_are_refused() -> None:
    with pytest.raises(InputError, match="joint or sequential or parallel"):
        PromptConfig(slots="both")
    with pytest.raises(InputError, match="n_separators 1"):
        PromptConfig(slots="parallel", n_separators=2)
    with pytest.raises(InputError, match="pool separator"):
        PromptConfig(slots="sequential", pool="mean")


@pytest.mark.parametrize(("kind", "verbalizer", "read", "infix"), WITH_INFIX)
def test_a_label_s_score_is_the_log_probability_of_its_values_in_a_row(
    kind: str, verbalizer: str, read: str, infix: int
) -> None:
    prompted = model("sequential", kind, verbalizer, read, infix)
    assert isinstance(prompted, SequentialSlots)
    rows = some_rows()
    scores_NC = label_logits(prompted, batches(prompted, rows))
    for label, choice in enumerate(prompted.slots.choice_NK):
        said = [replace(row, label=label) for row in rows]
        for batch in batches(prompted, said).in_order():  # true values read back in one pass, without a cache
            expected_B = prompted(batch).detach()[:, choice].sum(1)
            torch.testing.assert_close(scores_NC[batch.index_B, label], expected_B, rtol=1e-4, atol=1e-4)


def test_probabilities_of_all_combinations_sum_to_one() -> None:
    every = tuple("|".join(label) for label in itertools.product("ab", "cde", "fg"))
    for way in ("sequential", "parallel"):
        prompted = model(way, labels=every)
        scores_NC = label_logits(prompted, batches(prompted, some_rows()))
        torch.testing.assert_close(scores_NC.exp().sum(1), torch.ones(9))


@pytest.mark.parametrize(("kind", "verbalizer", "read", "infix"), WITH_INFIX)
def test_parallel_slots_are_read_at_their_own_separators(
    kind: str, verbalizer: str, read: str, infix: int
) -> None:
    prompted = model("parallel", kind, verbalizer, read, infix)
    assert isinstance(prompted, ParallelSlots)
    assert prompted.separator.shape == (3, 32)
    rows = some_rows()
    scores_NC = label_logits(prompted, batches(prompted, rows))
    for row, score_C in zip(rows[:4], scores_NC, strict=False):
        ids = [2, *(row.units + 4), 0, 0, 0]
        ids_1T, vectors_1T = torch.tensor([ids]), torch.zeros(1, len(ids), 32)
        vectors_1T[0, -3:] = prompted.separator.detach()
        x_BSD, prefix, column_BT = prompted._inputs(ids_1T, vectors_1T)
        hidden_BSD = prompted.lm(x_BSD, prefix=prefix)
        for label, choice in enumerate(prompted.slots.choice_NK):
            expected, first = 0.0, 0
            for slot, size in enumerate(prompted.slots.sizes):
                read_D = hidden_BSD[0, column_BT[0, len(ids) - 3 + slot]]
                logits = prompted.class_logits(read_D)[first : first + size]
                expected += logits.log_softmax(0)[choice[slot] - first].item()
                first += size
            assert score_C[label].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("way", ["sequential", "parallel"])
def test_a_row_is_as_if_alone_and_long_rows_leave_room_for_all_slots(way: str) -> None:
    prompted, rows = model(way), some_rows(12)
    together_NC = label_logits(prompted, batches(prompted, rows))
    alone_NC = torch.cat([label_logits(prompted, batches(prompted, [row])) for row in rows])
    torch.testing.assert_close(together_NC, alone_NC, rtol=1e-4, atol=1e-4)
    with pytest.warns(UserWarning, match="first 36 units"):
        longest = batches(prompted, [LabelledUnits(np.arange(60) % N_UNITS, 0)])
    assert label_logits(prompted, longest).isfinite().all()


def test_few_rows_at_a_time_score_as_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    prompted, rows = model("sequential"), some_rows(12)
    together_NC = label_logits(prompted, batches(prompted, rows))
    monkeypatch.setattr("speechprompt.slots.prompted._TOKENS_AT_ONCE", 300)
    few_NC = label_logits(prompted, batches(prompted, rows))
    torch.testing.assert_close(few_NC, together_NC, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["sequential", "parallel"])
@pytest.mark.parametrize(("kind", "verbalizer", "read", "infix"), KINDS)
def test_everything_trained_gets_gradients_and_the_language_model_none(
    way: str, kind: str, verbalizer: str, read: str, infix: int
) -> None:
    prompted = model(way, kind, verbalizer, read, infix)
    fingerprint, rows = prompted.lm.fingerprint(), some_rows()
    with torch.no_grad():  # nothing may be kept from an earlier pass
        prompted(next(batches(prompted, rows).in_order()))
    objective = label_objective(prompted, rows, rows, TrainConfig(label_smoothing=0.1))
    batch = next(batches(prompted, rows).in_order())
    objective.loss(prompted(batch), batch).backward()
    for name, parameter in prompted.named_parameters():
        if name.startswith("lm."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    if way == "parallel":
        assert (prompted.separator.grad.abs().sum(1) > 0).all(), "every slot's separator"
    assert prompted.lm.fingerprint() == fingerprint


def test_the_loss_is_the_negative_log_probability_of_the_labels() -> None:
    prompted, rows = model("sequential"), some_rows()
    objective = label_objective(prompted, rows, rows, TrainConfig(label_smoothing=0.0))
    batch = next(batches(prompted, rows).in_order())
    score_BN = prompted.label_logits(batch)
    expected = -score_BN.gather(1, batch.labels_B[:, None]).mean()
    torch.testing.assert_close(
        objective.loss(prompted(batch), batch).detach(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("verbalizer", ["random", "learnable"])
@pytest.mark.parametrize("way", ["sequential", "parallel"])
def test_what_was_trained_is_restored(way: str, verbalizer: str) -> None:
    prompted, rows = model(way, verbalizer=verbalizer), some_rows()
    state = prompted.trainable_state()
    last = "verbalizer.ids" if verbalizer == "random" else "verbalizer.weight"
    assert state.keys() == {"prompt.key", "prompt.value", "separator", last}
    config = PromptConfig(length=4, verbalizer=verbalizer, slots=way, seed=7, init="frequent")
    restored = restore_classifier(prompted.lm, LABELS, config, state)
    assert type(restored) is type(prompted)
    together = label_logits(restored, batches(prompted, rows))
    assert torch.equal(together, label_logits(prompted, batches(prompted, rows)))


@pytest.fixture(autouse=True)
def one_thread_and_no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("units.atomic.os.fsync", lambda descriptor: None)


EVERYTHING = TrainConfig(
    max_epochs=3, batch_rows=8, average_epochs=2, unit_dropout=0.1, label_smoothing=0.1, checkpoint_steps=2
)


def train(folder: Path, way: str, config: TrainConfig) -> tuple[PromptedSlots, list[dict[str, float]]]:
    transformer = TransformerConfig(n_layers=2, d_model=32, n_heads=2, d_ffn=64, max_positions=40)
    lm = GSLM(transformer, UnitVocab.from_n_units(N_UNITS)).initialise(seed=1)
    prompted = build_classifier(lm, LABELS, PromptConfig(slots=way))
    assert isinstance(prompted, PromptedSlots)
    record = RunRecord(
        task="planted",
        data=None,
        labels=LABELS,
        stack="none",
        spec=UnitSpec("none", 0, N_UNITS, 50.0, "0" * 12),
        lm_fingerprint=lm.fingerprint(),
        prompt=PromptConfig(slots=way).to_dict(),
        training=config.to_dict(),
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
    )
    begin_run(folder, record)
    rows = planted_rows(48, 0)
    return prompted, train_module(
        label_objective(prompted, rows, planted_rows(24, 1), config), config, folder
    )


def planted_rows(n: int, seed: int) -> list[LabelledUnits]:
    """Rows whose label is the group of four units that they draw from."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(LABELS), size=n)
    return [
        LabelledUnits(rng.integers(4 * label, 4 * label + 4, size=int(rng.integers(8, 20))), int(label))
        for label in labels
    ]


@pytest.mark.parametrize("way", ["sequential", "parallel"])
def test_training_learns_what_is_planted(tmp_path: Path, way: str) -> None:
    prompted, history = train(tmp_path / "run", way, replace(EVERYTHING, max_epochs=10, checkpoint_steps=0))
    assert max(row["valid_accuracy"] for row in history) > 0.7
    assert read_record(tmp_path / "run").metrics["valid"]["accuracy"] > 0.7
    assert (
        load_prompt(tmp_path / "run", prompted.lm.fingerprint()).keys() == prompted.trainable_state().keys()
    )


@pytest.mark.parametrize("way", ["sequential", "parallel"])
def test_an_interrupted_training_continues_to_the_bit(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechprompt import checkpoint

    train(tmp_path / "whole", way, EVERYTHING)
    counts = iter(range(5))

    def save_state(folder: Path, state: dict) -> None:
        if next(counts, None) is None:
            raise KeyboardInterrupt
        checkpoint.save_state(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.trainer.save_state", save_state)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", way, EVERYTHING)
    train(tmp_path / "run", way, EVERYTHING)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert (whole / PROMPT_FILE).read_bytes() == (run / PROMPT_FILE).read_bytes()
    for one, other in zip(read_log(whole), read_log(run), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
