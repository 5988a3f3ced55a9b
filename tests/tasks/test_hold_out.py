"""Holding out a tenth: nothing lost, nothing twice, no label orphaned, no voice in both parts."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.csv_table import TableRow
from tasks.hold_out import hold_out_tenth


def rows_of(pairs: list[tuple[str, str | None]]) -> list[TableRow]:
    return [
        TableRow(Path("t.csv"), i + 2, f"{i}.wav", label, speaker) for i, (label, speaker) in enumerate(pairs)
    ]


some_rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(["s1", "s2", "s3", "s4"])),
    min_size=1,
    max_size=40,
).map(rows_of)


@given(rows=some_rows, seed=st.integers(0, 3))
def test_parts_are_a_partition_and_every_label_stays_in_train(rows: list[TableRow], seed: int) -> None:
    train, valid = hold_out_tenth(rows, seed)
    assert Counter(train) + Counter(valid) == Counter(rows)
    assert {row.label for row in train} == {row.label for row in rows}
    if max(Counter(row.label for row in rows).values()) > 1:
        assert valid


@given(rows=some_rows, seed=st.integers(0, 3), shuffle=st.randoms())
def test_the_order_of_the_rows_does_not_matter(
    rows: list[TableRow], seed: int, shuffle: random.Random
) -> None:
    _, valid = hold_out_tenth(rows, seed)
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    _, again = hold_out_tenth(shuffled, seed)
    assert set(valid) == set(again)


@given(n_speakers=st.integers(2, 40), seed=st.integers(0, 3))
def test_whole_speakers_where_each_says_every_label(n_speakers: int, seed: int) -> None:
    rows = rows_of([(label, f"s{s}") for s in range(n_speakers) for label in "abba"])
    train, valid = hold_out_tenth(rows, seed)
    assert not {row.speaker for row in train} & {row.speaker for row in valid}
    if n_speakers >= 5:  # with fewer, one speaker is more than a fifth
        assert len(rows) / 10 <= len(valid) <= len(rows) / 5


def test_unequal_speakers_the_smallest_is_taken_if_all_are_large() -> None:
    rows = rows_of([("ab"[i % 2], "large" if i < 60 else "small") for i in range(100)])
    _, valid = hold_out_tenth(rows)
    assert {row.speaker for row in valid} == {"small"}


def test_too_few_rows_to_validate_on_go_by_label() -> None:
    rows = rows_of([("ab"[i % 2], "tiny" if i < 2 else f"s{i % 2}") for i in range(200)])
    _, valid = hold_out_tenth(rows)
    assert Counter(row.label for row in valid) == {"a": 10, "b": 10}


def test_a_label_of_one_speaker_only_stays_and_unknown_speakers_go_by_label() -> None:
    owned = rows_of([(speaker, speaker) for speaker in "abcd" for _ in range(10)])
    for rows in (owned, rows_of([(row.label, None) for row in owned])):
        _, valid = hold_out_tenth(rows)
        assert Counter(row.label for row in valid) == dict.fromkeys("abcd", 1)


def test_the_seed_draws() -> None:
    rows = rows_of([("a", f"s{i}") for i in range(40)])
    drawn = {tuple(row.relative for row in hold_out_tenth(rows, seed)[1]) for seed in range(8)}
    assert len(drawn) > 1
