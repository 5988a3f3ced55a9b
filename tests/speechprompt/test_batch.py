from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt.augment import UnitAugmentation
from speechprompt.batch import Batch, BucketedBatches, LabelledUnits, bucket, shuffled_plan
from speechprompt.vocab import UnitVocab
from units.errors import InputError

VOCAB = UnitVocab.from_n_units(20)


def make_rows(n_rows: int, seed: int = 0) -> list[LabelledUnits]:
    rng = np.random.default_rng(seed)
    return [LabelledUnits(rng.integers(20, size=rng.integers(1, 30)), i % 4) for i in range(n_rows)]


def with_prosody(rows: list[LabelledUnits]) -> list[LabelledUnits]:
    rng = np.random.default_rng(1)
    prosody = [(rng.integers(1, 9, len(row.units)), rng.normal(size=len(row.units))) for row in rows]
    return [
        LabelledUnits(np.column_stack([row.units, *columns]), row.label)
        for row, columns in zip(rows, prosody, strict=True)
    ]


def make_batches(n_rows: int = 50, **options: object) -> BucketedBatches:
    return BucketedBatches(make_rows(n_rows), VOCAB, **{"batch_tokens": 100, "max_positions": 64, **options})


def equal(one: Batch, other: Batch) -> bool:
    assert (one.prosody_BT2 is None) == (other.prosody_BT2 is None)
    return all(torch.equal(x, vars(other)[name]) for name, x in vars(one).items() if x is not None)


@settings(max_examples=50)
@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=60),
    st.integers(1, 200),
    st.none() | st.integers(1, 8),
    st.integers(0, 9),
)
def test_a_plan_holds_every_row_once_within_the_budget(
    lengths: list[int], batch_tokens: int, max_rows: int | None, seed: int
) -> None:
    plan = shuffled_plan(np.array(lengths), batch_tokens, (seed,), max_rows)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for index in plan:
        n_padded = len(index) * max(lengths[i] for i in index)
        assert n_padded <= batch_tokens or len(index) == 1
        assert max_rows is None or len(index) <= max_rows


def test_rows_of_similar_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(3, 200, size=500)
    plan = shuffled_plan(lengths, 1000, (0,))
    padded = sum(len(index) * lengths[index].max() for index in plan)
    assert padded < 1.25 * lengths.sum()


def test_a_row_is_framed_padded_on_the_right_and_ends_where_the_label_is_read() -> None:
    rows = [LabelledUnits(np.array([3, 7]), 1), LabelledUnits(np.array([5]), 0)]
    batch = next(BucketedBatches(rows, VOCAB, batch_tokens=100, max_positions=64).in_order())
    assert batch.ids_BT.tolist() == [[2, 9, 0, 1], [2, 7, 11, 0]]
    assert batch.lengths_B.tolist() == [3, 4]
    assert batch.labels_B.tolist() == [0, 1]
    assert batch.index_B.tolist() == [1, 0]
    assert batch.n_tokens == 7
    assert len(batch) == 2
    assert batch.ids_BT.gather(1, batch.lengths_B[:, None] - 1).eq(VOCAB.bos).all()


def test_every_row_comes_once_per_epoch_in_another_order() -> None:
    batches = make_batches()
    orders = [torch.cat([batch.index_B for batch in batches.epoch(epoch)]).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]
    assert sorted(torch.cat([batch.index_B for batch in batches.in_order()]).tolist()) == list(range(50))
    assert batches.n_batches(1) == len(list(batches.epoch(1)))


@pytest.mark.parametrize("augmentation", [None, UnitAugmentation(p_drop=0.2, p_replace=0.2)])
def test_an_epoch_resumed_in_its_middle_gives_the_same_rest(augmentation: UnitAugmentation | None) -> None:
    whole = list(make_batches(augmentation=augmentation, seed=3).epoch(2))
    rest = list(make_batches(augmentation=augmentation, seed=3).epoch(2, start=2))
    assert len(whole) > 3
    assert len(rest) == len(whole) - 2
    assert all(equal(one, other) for one, other in zip(whole[2:], rest, strict=True))


def test_augmentation_varies_training_rows_and_leaves_evaluation_alone() -> None:
    plain, varied = make_batches(), make_batches(augmentation=UnitAugmentation(p_drop=0.3, p_replace=0.3))
    assert not all(equal(one, other) for one, other in zip(plain.epoch(0), varied.epoch(0), strict=True))
    assert all(equal(one, other) for one, other in zip(plain.in_order(), varied.in_order(), strict=True))
    first, second = (
        {
            int(i): ids.tolist()
            for batch in varied.epoch(epoch)
            for i, ids in zip(batch.index_B, batch.ids_BT, strict=True)
        }
        for epoch in (0, 1)
    )
    assert any(first[i] != second[i] for i in first)


def test_long_rows_are_cut_and_counted() -> None:
    rows = [LabelledUnits(np.arange(20)), LabelledUnits(np.arange(8)), LabelledUnits(np.arange(9))]
    with pytest.warns(UserWarning, match="2 of 3 utterances cut to their first 8 units"):
        batches = BucketedBatches(rows, VOCAB, batch_tokens=100, max_positions=10)
    assert batches.n_truncated == 2
    for batch in batches.in_order():
        assert batch.ids_BT.shape[1] <= 10
        assert batch.ids_BT[:, 1:-1].tolist() == [VOCAB.encode(range(8)).tolist()] * len(batch)


def test_a_row_above_the_budget_is_a_batch_of_its_own() -> None:
    assert [run.tolist() for run in bucket(np.array([3, 3, 50, 60]), 20)] == [[0, 1], [2], [3]]
    assert bucket(np.array([]), 20) == []


@pytest.mark.parametrize(
    "options",
    [
        {"rows": []},
        {"rows": [LabelledUnits(np.array([], dtype=np.int64))]},
        {"batch_tokens": 0},
        {"max_rows": 0},
    ],
)
def test_nothing_to_batch_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        BucketedBatches(
            **{"rows": make_rows(2), "vocab": VOCAB, "batch_tokens": 10, "max_positions": 64, **options}
        )


@pytest.mark.parametrize("rows", [make_rows(5), with_prosody(make_rows(5))])
def test_a_batch_moves_as_a_whole(rows: list[LabelledUnits]) -> None:
    batch = next(BucketedBatches(rows, VOCAB, batch_tokens=100, max_positions=64).epoch(0))
    moved = batch.to("meta")
    assert all(x.device.type == "meta" for x in vars(moved).values() if x is not None)
    assert (moved.prosody_BT2 is None) == (rows[0].units.ndim == 1)


def test_prosody_stands_beside_its_units_and_is_nothing_elsewhere() -> None:
    plain, spoken = make_rows(30), with_prosody(make_rows(30))
    options = {"batch_tokens": 100, "max_positions": 20}  # the longest rows are cut
    with pytest.warns(UserWarning, match="cut"):
        units_alone = BucketedBatches(plain, VOCAB, **options).epoch(1)
        batches = list(BucketedBatches(spoken, VOCAB, **options).epoch(1))
    for batch, same in zip(batches, units_alone, strict=True):
        assert batch.prosody_BT2 is not None and batch.prosody_BT2.dtype == torch.float32
        assert equal(replace(batch, prosody_BT2=None), same)
        for i, ids, prosody in zip(batch.index_B, batch.ids_BT, batch.prosody_BT2, strict=True):
            is_unit = ids >= 4
            np.testing.assert_array_equal(
                prosody[is_unit], spoken[int(i)].units[:18, 1:].astype(np.float32), strict=True
            )
            assert not prosody[~is_unit].any()


def test_an_epoch_of_varied_rows_keeps_prosody_and_length() -> None:
    augmentation = UnitAugmentation(p_drop=0.3, p_replace=0.3)
    plain = make_batches(augmentation=augmentation).epoch(0)
    rows = with_prosody(make_rows(50))
    spoken = BucketedBatches(rows, VOCAB, batch_tokens=100, max_positions=64, augmentation=augmentation)
    for batch, same in zip(spoken.epoch(0), plain, strict=True):
        assert equal(replace(batch, prosody_BT2=None), same)  # the same draws
        assert batch.prosody_BT2 is not None
        assert (batch.prosody_BT2[batch.ids_BT >= 4, 0] >= 1).all()
