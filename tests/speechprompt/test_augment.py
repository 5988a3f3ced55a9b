from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt.augment import UnitAugmentation, augment_row
from speechprompt.vocab import UnitVocab
from units.errors import InputError

PROBABILITIES = st.floats(0, 1, exclude_max=True)


@given(st.lists(st.integers(0, 9), min_size=1), PROBABILITIES, PROBABILITIES, st.integers(0, 2**32))
def test_rows_stay_rows_of_known_units(units: list[int], p_drop: float, p_replace: float, seed: int) -> None:
    row = np.array(units)
    varied = UnitAugmentation(p_drop, p_replace)(row, 10, np.random.default_rng(seed))
    assert 1 <= len(varied) <= len(row)
    assert varied.dtype == np.int64
    assert ((varied >= 0) & (varied < 10)).all()
    assert row.tolist() == units
    if not (row[1:] == row[:-1]).any():
        assert not (varied[1:] == varied[:-1]).any()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), st.floats(-3, 3)), min_size=1),
    PROBABILITIES,
    PROBABILITIES,
    st.integers(0, 2**32),
)
def test_rows_with_prosody_are_varied_by_the_same_draws(
    columns: list[tuple[int, int, float]], p_drop: float, p_replace: float, seed: int
) -> None:
    row, augmentation = np.array(columns, dtype=np.float64), UnitAugmentation(p_drop, p_replace)
    before = row.copy()
    units = row[:, 0].astype(np.int64)
    varied = augmentation(row, 10, np.random.default_rng(seed))
    assert varied.dtype == np.float64 and varied.shape == (len(varied), 3)
    assert varied[:, 0].tolist() == augmentation(units, 10, np.random.default_rng(seed)).tolist()
    np.testing.assert_array_equal(row, before)
    assert (varied[:, 1] >= 1).all() and (varied[:, 1] == varied[:, 1].round()).all()
    assert (np.abs(varied[:, 2]) <= np.abs(row[:, 2]).max() + 1e-9).all()
    kept = np.random.default_rng(seed).random(len(row)) >= p_drop  # the first draws
    if kept.any():
        assert varied[:, 1].sum() == row[kept, 1].sum()
        assert varied[:, 1] @ varied[:, 2] == pytest.approx(row[kept, 1] @ row[kept, 2], abs=1e-9)


def test_what_is_merged_lasts_as_long_as_its_parts_at_their_mean_height() -> None:
    row = np.array([[1, 2, 0.5], [2, 3, -1.0], [1, 6, 1.5], [3, 1, 0.1]])
    for seed in range(200):
        varied = UnitAugmentation(p_drop=0.3)(row, 10, np.random.default_rng(seed))
        if varied[:, 0].tolist() == [1, 3]:
            merged = varied[0, 1:].tolist()
            if merged[0] == 8:  # both, not one of them alone
                assert merged[1] == pytest.approx((2 * 0.5 + 6 * 1.5) / 8)
                break
    else:
        raise AssertionError("never merged")


@pytest.mark.parametrize("row", [np.array([1, 1, 2, 3]), np.array([[1, 4, 0.3], [2, 3, 0.1], [3, 7, 0.7]])])
def test_zero_probabilities_change_nothing(row: np.ndarray) -> None:
    np.testing.assert_array_equal(UnitAugmentation()(row, 10, np.random.default_rng(0)), row, strict=True)


def test_probabilities_are_those_asked_for() -> None:
    row = np.arange(20_000) % 2 * 50 + np.arange(20_000) % 7
    rng = np.random.default_rng(0)
    kept = UnitAugmentation(p_drop=0.2)(np.concatenate([[0, 0], row]), 100, rng)  # repeats: nothing is merged
    assert len(kept) == pytest.approx(0.8 * len(row), rel=0.02)
    replaced = UnitAugmentation(p_replace=0.3)(np.concatenate([[0, 0], row]), 100, rng)[2:]
    assert (replaced != row).mean() == pytest.approx(0.3 * 0.99, abs=0.02)


@pytest.mark.parametrize(("p_drop", "p_replace"), [(-0.1, 0), (1, 0), (0, 1.1), (float("nan"), 0)])
def test_impossible_probabilities_are_refused(p_drop: float, p_replace: float) -> None:
    with pytest.raises(InputError):
        UnitAugmentation(p_drop, p_replace)


def test_augmentation_keeps_the_specials_at_the_ends_of_a_row() -> None:
    augmentation = UnitAugmentation(p_drop=0.5, p_replace=0.5)
    for seed in range(20):
        row = augment_row(
            np.array([2, 4, 5, 6, 7, 2]),
            UnitVocab.from_n_units(10),
            augmentation,
            np.random.default_rng(seed),
        )
        assert row[0] == row[-1] == 2
        assert 3 <= len(row) <= 6
        assert (row[1:-1] >= 4).all()
        piece = augment_row(
            np.array([4, 5, 6]), UnitVocab.from_n_units(10), augmentation, np.random.default_rng(seed)
        )
        assert (piece >= 4).all()
    assert augment_row(
        np.array([2, 2]), UnitVocab.from_n_units(10), augmentation, np.random.default_rng(0)
    ).tolist() == [2, 2]
