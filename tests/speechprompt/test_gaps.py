"""Gaps: damaged where drawn and nowhere else; what is written is put where its context is; every other bit stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt.generate.consensus import median_row
from speechprompt.generate.corruption import CorruptionConfig, corrupted, draw_spans
from speechprompt.generate.damaged import Damaged, gap_frames
from speechprompt.generate.gap_filling import (
    between,
    filled,
    fitted,
    held_from_both_sides,
    runs,
    widened,
    with_cut_units,
    written_in_gaps,
)
from speechprompt.generate.inpainter import GapReading, InpaintingConfig
from speechprompt.generate.measured_gaps import unit_measures, whole_units
from speechprompt.generate.nearest import NearestFill
from speechprompt.generate.splicing import spliced
from speechprompt.seq2seq.decoding import WritingConfig
from speechprompt.vocab import MBartVocab
from tasks.metrics.mel_cepstrum import mel_cepstral_distance
from units.errors import AudioError, InputError
from units.recording import Recording
from units.types import UnitSpec

RATE = 16_000
SPEC = UnitSpec("planted", 0, 12, 50.0, "0" * 12)
VOCAB = MBartVocab([str(unit) for unit in range(SPEC.n_units)], ["und"])
UNITS = st.lists(st.integers(0, 3), max_size=12).map(lambda units: np.array(units, dtype=np.int64))


@given(
    st.integers(100, 5 * RATE),
    st.integers(1, 4),
    st.sampled_from(["zeros", "noise"]),
    st.integers(0, 1000),
)
def test_spans_are_damaged_and_nothing_else(n_samples: int, n_spans: int, fill: str, seed: int) -> None:
    config = CorruptionConfig(n_spans=n_spans, fill=fill, seed=seed)  # type: ignore[arg-type]
    wave = np.random.default_rng(seed).uniform(0.1, 0.2, n_samples).astype(np.float32)
    spans = draw_spans(n_samples, RATE, config, config.generator("a"))
    assert spans == draw_spans(n_samples, RATE, config, config.generator("a"))
    assert len(spans) == n_spans
    bounds = [bound for span in spans for bound in span]
    assert bounds == sorted(set(bounds)) and bounds[0] >= 0 and bounds[-1] <= n_samples
    if n_samples > RATE * (config.max_s * n_spans + config.margin_s * (n_spans + 1)):
        margin = round(config.margin_s * RATE)
        assert all(config.min_s * RATE - 1 <= stop - start <= config.max_s * RATE for start, stop in spans)
        assert bounds[0] >= margin and bounds[-1] <= n_samples - margin
    damaged = corrupted(wave, spans, config, config.generator("b"))
    outside = np.ones(n_samples, dtype=bool)
    for start, stop in spans:
        outside[start:stop] = False
        if fill == "zeros":
            assert not damaged[start:stop].any()
        elif stop - start > 1000:
            assert damaged[start:stop].std() == pytest.approx(0.15, rel=0.15)
    assert outside.sum() >= n_samples // 3
    np.testing.assert_array_equal(damaged[outside], wave[outside])


def test_damage_depends_on_name_version_and_seed_only() -> None:
    config = CorruptionConfig()
    drawn = {
        draw_spans(5 * RATE, RATE, c, c.generator(name, version))
        for c in (config, replace(config, seed=1))
        for name in ("a", "b")
        for version in (0, 1)
    }
    assert len(drawn) == 8
    with pytest.raises(AudioError, match="at least 4 samples"):
        draw_spans(3, RATE, config, config.generator("a"))
    for wrong in ({"min_s": 0.0}, {"min_s": 2.0}, {"n_spans": 0}, {"fill": "hum"}, {"margin_s": -1.0}):
        with pytest.raises(InputError, match="corruption: expected"):
            CorruptionConfig(**wrong)  # type: ignore[arg-type]


def test_a_gap_is_every_frame_that_it_touches() -> None:
    assert gap_frames([(0, 1), (319, 641), (3200, 9999)], RATE, SPEC, 12) == ((0, 1), (0, 3), (10, 12))
    assert widened([(1, 3), (6, 7), (11, 12)], 12, 2) == [(0, 12)]
    assert widened([(3, 4), (9, 10)], 12, 1) == [(2, 5), (8, 11)]


@given(UNITS, UNITS, UNITS, UNITS)
def test_what_is_written_between_true_contexts_is_found(
    first: np.ndarray, one: np.ndarray, middle: np.ndarray, other: np.ndarray
) -> None:
    # Contexts and fills have no unit in common, so that there is one right answer.
    contexts = [np.append(first, 0), np.append(np.append(1, middle), 2), np.array([3])]
    fills = [one + 10, other + 20]
    written = np.concatenate([contexts[0], fills[0], contexts[1], fills[1], contexts[2]])
    found = [written[part].tolist() for part in written_in_gaps(written, contexts)]
    assert found == [fill.tolist() for fill in fills]


@given(UNITS, st.lists(UNITS, min_size=2, max_size=4))
def test_any_row_is_divided_in_order_at_the_least_cost(
    written: np.ndarray, contexts: list[np.ndarray]
) -> None:
    parts = written_in_gaps(written, contexts)
    assert len(parts) == len(contexts) - 1
    bounds = [0, *(bound for part in parts for bound in (part.start, part.stop)), len(written)]
    assert bounds == sorted(bounds)

    def distance(a: np.ndarray, b: np.ndarray) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a):
            last, row[0] = row[0], i + 1
            for j, y in enumerate(b):
                last, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, last + (x != y))
        return row[-1]

    def cost(cuts: list[int]) -> int:
        kept = [written[cuts[i] : cuts[i + 1]] for i in range(0, len(cuts), 2)]
        return sum(distance(a, b) for a, b in zip(kept, contexts, strict=True))

    if len(contexts) == 2:
        n = len(written)
        least = min(cost([0, i, j, n]) for i in range(n + 1) for j in range(i, n + 1))
        assert cost(bounds) == least


def test_context_that_was_changed_is_still_context() -> None:
    written = np.array([1, 2, 9, 4, 5, 6, 7, 9, 9])
    [part] = written_in_gaps(written, [np.array([1, 2, 3, 4]), np.array([7, 8, 9])])
    assert written[part].tolist() == [5, 6]


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.integers(0, 60))
def test_units_are_held_for_exactly_the_frames_of_the_gap(weights: list[float], n_frames: int) -> None:
    units = np.arange(len(weights))
    frames = fitted(units, np.array(weights), n_frames)
    assert len(frames) == n_frames and (np.diff(frames) >= 0).all()
    if n_frames >= len(units):
        assert set(frames) == set(units)


def test_units_are_held_in_proportion() -> None:
    assert fitted(np.array([5, 6]), np.array([1.0, 3.0]), 8).tolist() == [5, 5, 6, 6, 6, 6, 6, 6]
    assert fitted(np.array([5, 6, 7]), np.array([1.0, 8.0, 1.0]), 3).tolist() == [5, 6, 7]
    assert fitted(np.arange(10), np.ones(10), 3).tolist() == [0, 4, 9]
    frames = np.array([1, 1, 2, 3, 3, 3])
    assert held_from_both_sides(frames, (2, 5)).tolist() == [1, 3, 3]
    assert held_from_both_sides(frames, (0, 3)).tolist() == [3, 3, 3]
    assert held_from_both_sides(frames, (4, 6)).tolist() == [3, 3]
    # Units 1 and 3 would last 4 and 2 frames, of which 2 and 1 are left beside the gap.
    written, lasting = np.array([1, 8, 3]), np.array([4, 2, 2])
    heard = np.array([1, 1, 0, 0, 0, 3, 5])
    units, weights = with_cut_units(written, lasting, slice(1, 2), heard, (2, 5))
    assert (units.tolist(), weights.tolist()) == ([1, 8, 3], [2, 2, 1])
    units, weights = with_cut_units(written, np.ones(3), slice(1, 2), heard, (2, 5))
    assert (units.tolist(), weights.tolist()) == ([8], [1])
    assert with_cut_units(written, lasting, slice(0, 3), heard, (0, 7))[0].tolist() == [1, 8, 3]
    assert [part.tolist() for part in runs(frames)] == [[1, 2, 3], [2, 1, 3]]
    assert [part.tolist() for part in between(frames, [(1, 2), (4, 6)])] == [[1], [2, 3], []]
    assert filled(frames, [(1, 3)], [np.array([8, 9])]).tolist() == [1, 8, 9, 3, 3, 3]


def counting(start: int, n_frames: int) -> np.ndarray:
    return (start + np.arange(n_frames) // 2) % SPEC.n_units


def damaged(start: int, gap: tuple[int, int] = (12, 20), n_frames: int = 40) -> Damaged:
    clean = counting(start, n_frames)
    heard = clean.copy()
    heard[slice(*gap)] = 0
    return Damaged(str(start), heard, clean, (gap,), ((gap[0] * 320, gap[1] * 320),))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("deduplicate", [False, True])
def test_a_training_pair_marks_what_was_in_the_gap(masked: bool, deduplicate: bool) -> None:
    row = damaged(3)
    config = InpaintingConfig(masked=masked, guard=1)
    pair = GapReading(config, VOCAB, None, deduplicate).pair(row)
    clean = runs(row.clean)[0] if deduplicate else row.clean
    assert pair.target.tolist() == clean.tolist()
    assert pair.marked is not None
    # Frames 11 to 20: two frames each of units 5 (its half) to 10 (its half).
    expected = slice(5, 11) if deduplicate else slice(11, 21)
    assert np.flatnonzero(pair.marked).tolist() == list(range(expected.start, expected.stop))
    assert (VOCAB.mask in pair.source) == masked
    assert [int(pair.source[0]), *pair.source[-2:].tolist()] == [
        VOCAB.bos,
        VOCAB.eos,
        VOCAB.language_id("und"),
    ]
    if masked:
        before, after = np.split(pair.source[1:-2], [int(np.flatnonzero(pair.source[1:-2] == VOCAB.mask)[0])])
        heard = row.heard[:11], row.heard[21:]
        for ids, frames in zip((before, after[1:]), heard, strict=True):
            assert VOCAB.decode(ids).tolist() == (runs(frames)[0] if deduplicate else frames).tolist()


def test_masks_tell_how_many_units_are_missing_at_the_rate_of_those_around() -> None:
    config = InpaintingConfig(masked=True, guard=1)
    row = damaged(3)  # two frames a unit; ten frames to fill
    for deduplicate, n_masks in ((True, 5), (False, 10)):
        source = GapReading(config, VOCAB, None, deduplicate, mask_each=True).source(row)
        masked = np.flatnonzero(source == VOCAB.mask)
        assert len(masked) == n_masks and np.ptp(masked) == n_masks - 1  # next to each other
        one = GapReading(config, VOCAB, None, deduplicate).source(row)
        assert len(one) == len(source) - n_masks + 1
    lost = Damaged("", row.heard, row.clean, ((0, 40),), row.spans)  # nothing is left to tell a rate
    assert (GapReading(config, VOCAB, None, True, mask_each=True).source(lost) == VOCAB.mask).sum() == 40


def test_a_pair_has_as_many_masks_as_units_are_missing_and_keeps_what_is_heard_around() -> None:
    row = damaged(3)
    row.heard[2] = 11  # what the damage does further away
    shown = GapReading(InpaintingConfig(masked=True, guard=1), VOCAB, None, True, mask_each=True)
    pair = shown.pair(row)
    assert len(pair.source) == len(pair.target) + 3  # `<s>`, `</s>` and the tag
    masked = pair.source[1:-2] == VOCAB.mask
    assert VOCAB.decode(pair.source[1:-2][~masked]).tolist() == pair.target[~masked].tolist()
    assert pair.target[:3].tolist() == [3, 11, 4] and pair.marked is not None
    assert set(pair.target[pair.marked].tolist()) <= set(row.clean.tolist())


def test_every_one_of_several_gaps_has_its_masks() -> None:
    row = damaged(3)
    row.heard[26:33] = 0
    twice = Damaged("", row.heard, row.clean, (*row.gaps, (26, 33)), (*row.spans, (26 * 320, 33 * 320)))
    shown = GapReading(InpaintingConfig(masked=True, guard=1), VOCAB, None, True, mask_each=True)
    pair = shown.pair(twice)
    assert len(pair.source) == len(pair.target) + 3
    masked = pair.source[1:-2] == VOCAB.mask
    assert VOCAB.decode(pair.source[1:-2][~masked]).tolist() == pair.target[~masked].tolist()
    assert (np.diff(masked.astype(int)) == 1).sum() == 2


@given(st.lists(UNITS, min_size=1, max_size=5))
def test_the_median_takes_no_more_edits_than_any_row_drawn(drawn: list[np.ndarray]) -> None:
    def edits(one: list[int], other: list[int]) -> int:
        if not one or not other:
            return len(one) + len(other)
        changed = edits(one[1:], other[1:]) + (one[0] != other[0])
        return min(changed, edits(one[1:], other) + 1, edits(one, other[1:]) + 1)

    rows = [units[:5].tolist() for units in drawn]  # the plain recursion is slow
    median = median_row([np.array(row, dtype=np.int64) for row in rows]).tolist()
    sums = [sum(edits(one, other) for other in rows) for one in (median, *rows)]
    assert sums[0] == min(sums)
    assert set(median) <= {unit for row in rows for unit in row}


def test_the_median_says_what_most_rows_say() -> None:
    units = [
        np.array(row, dtype=np.int64)
        for row in ([7, 1, 2, 3, 4], [1, 2, 9, 3, 4], [1, 2, 3, 5], [1, 8, 3, 4])
    ]
    assert median_row(units).tolist() == [1, 2, 3, 4]  # which nobody said
    assert median_row(units[:1]).tolist() == [7, 1, 2, 3, 4]
    assert median_row([np.array([], dtype=np.int64)] * 3).tolist() == []
    with pytest.raises(InputError, match="candidates to be sampled"):
        WritingConfig(candidates=4)


def test_nearest_neighbours_know_what_follows_what() -> None:
    known = [counting(start, 60) for start in range(4)]
    rows = [damaged(start) for start in (5, 8)]
    fills = NearestFill(known)(rows)
    for row, fill in zip(rows, fills, strict=True):
        np.testing.assert_array_equal(fill, row.clean)
    alone = NearestFill([np.array([7, 7])])([damaged(0, (0, 40))])  # nothing there that is long enough
    assert len(alone[0]) == 40


def test_measures_compare_gaps_and_wholes() -> None:
    rows = [damaged(start) for start in range(4)]
    perfect = unit_measures(rows, [row.clean for row in rows])
    assert whole_units(np.array([1, 2, 2, 2, 3, 4]), (2, 5)) == (1, 5)
    assert whole_units(np.array([1, 1, 2, 2]), (1, 4)) == (0, 4) and whole_units(np.ones(3), (3, 3)) == (3, 3)
    assert perfect["gap_unit_error_rate"] == perfect["unit_error_rate"] == 0
    as_heard = unit_measures(rows, [row.heard for row in rows])
    # Of four units in the gap at least three are lost, and of twenty overall as many.
    assert as_heard["gap_unit_error_rate"] > 0.7
    assert 0.1 < as_heard["unit_error_rate"] < 0.3
    low, high = as_heard["gap_unit_error_rate_interval_95"]
    assert low <= as_heard["gap_unit_error_rate"] <= high and as_heard["n"] == 4


def test_mel_cepstral_distance_is_that_of_envelopes_whatever_the_loudness() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    assert mel_cepstral_distance(noise, 0.5 * noise, RATE) == pytest.approx(0, abs=1e-6)
    smooth = np.convolve(noise, np.ones(8) / 8)[:RATE]  # a low-pass filter
    assert mel_cepstral_distance(noise, smooth, RATE) == pytest.approx(
        mel_cepstral_distance(smooth, noise, RATE)
    )
    other = np.random.default_rng(1).normal(0, 0.1, RATE)
    assert mel_cepstral_distance(noise, smooth, RATE) > mel_cepstral_distance(noise, other, RATE) > 0.5
    assert mel_cepstral_distance(noise, np.zeros(RATE), RATE) < 30
    with pytest.raises(InputError, match="expected samples"):
        mel_cepstral_distance(noise, noise[:0], RATE)


@pytest.mark.parametrize("kind", ["int16", "int32", "float32"])
def test_a_spoken_gap_leaves_every_other_bit(kind: str) -> None:
    rng = np.random.default_rng(0)
    there = rng.uniform(-0.5, 0.5, (44_100, 2))
    scale = 1.0 if kind == "float32" else -float(np.iinfo(kind).min)
    recording = Recording((there * scale).astype(kind), 44_100, "PCM_16")
    voice = np.sin(np.arange(RATE) / 5).astype(np.float32)
    gap = (0.3, 0.5)
    mended = spliced(recording, voice, RATE, [gap])
    start, stop = (round(time * 44_100) for time in gap)
    np.testing.assert_array_equal(mended.samples_NC[:start], recording.samples_NC[:start])
    np.testing.assert_array_equal(mended.samples_NC[stop:], recording.samples_NC[stop:])
    inner = mended.samples_NC[start + 500 : stop - 500] / scale
    np.testing.assert_array_equal(inner[:, 0], inner[:, 1])
    # As loud as the recording beside it (0.289, less where its two channels cancel), at its own time.
    assert inner.std() == pytest.approx(there.mean(1).std(), rel=0.05)
    heard = np.sin(np.arange(start + 500, stop - 500) / 44_100 * RATE / 5)
    assert np.corrcoef(inner[:, 0], heard)[0, 1] > 0.999
    part = spliced(recording, voice[3200:], RATE, [gap], voice_from_s=0.2)
    np.testing.assert_allclose(
        part.samples_NC[start:stop] / scale, mended.samples_NC[start:stop] / scale, atol=0.02
    )
