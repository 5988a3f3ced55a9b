"""UnitSequence and UnitSpec: what is inconsistent cannot be made, and deduplication loses nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from units import InputError, UnitSequence, UnitSpec, UnitSpecMismatch

SPEC = UnitSpec(encoder="hubert-base-ls960", layer=6, n_units=10, frame_rate=50.0, codebook="0123456789ab")
frames = st.lists(st.integers(0, 9), max_size=60).map(lambda units: np.array(units, dtype=np.int64))


@given(frames)
def test_deduplicate_and_expand_are_inverse(units: np.ndarray) -> None:
    sequence = UnitSequence(units, SPEC, f0_hz=np.zeros(len(units), np.float32))
    short = sequence.deduplicate()
    assert short.durations is not None
    assert (np.diff(short.units) != 0).all() and (short.durations >= 1).all()
    assert short.n_frames == sequence.n_frames == len(units)
    assert short.duration_s == pytest.approx(len(units) / 50)
    assert short.units.dtype == short.durations.dtype == np.int64
    np.testing.assert_array_equal(short.expand().units, units)
    assert short.expand().durations is None
    assert short.f0_hz is not None and len(short.f0_hz) == len(units)


@given(frames)
def test_deduplicate_twice_is_once(units: np.ndarray) -> None:
    once = UnitSequence(units, SPEC).deduplicate()
    twice = once.deduplicate()
    np.testing.assert_array_equal(once.units, twice.units)
    np.testing.assert_array_equal(once.durations, twice.durations)


def test_durations_of_touching_runs_are_added() -> None:
    sequence = UnitSequence(np.array([3, 3, 4]), SPEC, durations=np.array([2, 5, 1])).deduplicate()
    assert sequence.units.tolist() == [3, 4]
    assert sequence.durations is not None and sequence.durations.tolist() == [7, 1]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"units": np.array([10])}, "another codebook"),
        ({"units": np.array([-1])}, "another codebook"),
        ({"units": np.array([0.5])}, "integer array"),
        ({"units": np.zeros((2, 2), np.int64)}, "one-dimensional"),
        ({"units": np.array([1, 2]), "durations": np.array([1])}, "one per unit"),
        ({"units": np.array([1, 2]), "durations": np.array([1, 0])}, ">= 1"),
        ({"units": np.array([1, 2]), "f0_hz": np.zeros(3)}, r"shape \(2,\)"),
        ({"units": np.array([1, 2]), "durations": np.array([1, 2]), "f0_hz": np.zeros(2)}, r"shape \(3,\)"),
    ],
)
def test_inconsistent_sequences_cannot_be_made(fields: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        UnitSequence(spec=SPEC, **fields)


def test_spec_round_trip() -> None:
    assert UnitSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(InputError, match="layer"):
        UnitSpec.from_dict({key: value for key, value in SPEC.to_dict().items() if key != "layer"})
    with pytest.raises(InputError, match="speed"):
        UnitSpec.from_dict({**SPEC.to_dict(), "speed": 1})


@pytest.mark.parametrize(("field", "value"), [("n_units", 0), ("frame_rate", 0.0), ("layer", -1)])
def test_impossible_specs(field: str, value: float) -> None:
    with pytest.raises(InputError, match="UnitSpec"):
        replace(SPEC, **{field: value})


def test_mismatch_names_both_and_what_differs() -> None:
    SPEC.require_equal(replace(SPEC), "a", "b")
    with pytest.raises(UnitSpecMismatch) as caught:
        SPEC.require_equal(replace(SPEC, codebook="ffffffffffff", layer=9), "LM of mini", "vocoder of other")
    message = str(caught.value)
    for part in ("LM of mini", "vocoder of other", "0123456789ab", "ffffffffffff", "layer 6 against 9"):
        assert part in message
    assert "n_units" not in message and "\n" not in message


def test_messages_stay_on_one_line() -> None:
    assert str(InputError("a\nb\r\nc")) == "a b c"
