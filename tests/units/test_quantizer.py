"""Batching and cutting change memory, never units or their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from units.encoders.logmel import LogMelEncoder
from units.errors import AudioError, UnitSpecMismatch
from units.kmeans import codebook_id
from units.quantizer import CodebookQuantizer, length_batches
from units.types import Quantizer

CENTROIDS = np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype(np.float32)


def test_spec_names_encoder_and_codebook(quantizer: CodebookQuantizer) -> None:
    assert isinstance(quantizer, Quantizer)
    spec = quantizer.spec
    assert (spec.encoder, spec.layer, spec.n_units, spec.frame_rate) == ("logmel-20", 0, 12, 50.0)
    assert spec.codebook == codebook_id(CENTROIDS)


def test_results_come_in_input_order(waves: list[np.ndarray], quantizer: CodebookQuantizer) -> None:
    expected = [quantizer([wave])[0] for wave in waves]
    got = quantizer(waves)
    assert [len(sequence) for sequence in got] == [quantizer.encoder.n_frames(len(wave)) for wave in waves]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.units, other.units)
        assert one.durations is None and one.spec == quantizer.spec
    assert quantizer([]) == []


@pytest.mark.parametrize("max_wave_s", [0.3, 1.0, 2.98, 2.96])
def test_long_waves_in_pieces_give_every_frame_once(waves: list[np.ndarray], max_wave_s: float) -> None:
    """Log-mel frames look at nothing but their window: pieces must give exactly the units of the whole."""
    whole = CodebookQuantizer(LogMelEncoder(20), CENTROIDS, max_wave_s=100.0)(waves)
    cut = CodebookQuantizer(LogMelEncoder(20), CENTROIDS, max_wave_s=max_wave_s)(waves)
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(one.units, other.units)


def test_no_batch_is_larger_than_asked() -> None:
    seen: list[int] = []

    class Spy(LogMelEncoder):
        def encode(self, waves):  # type: ignore[no-untyped-def]
            seen.append(len(waves) * max(map(len, waves)))
            return super().encode(waves)

    waves = [np.zeros(n, np.float32) for n in (8000, 400, 16_000, 32_000, 500, 600, 16_000)]
    CodebookQuantizer(Spy(20), CENTROIDS, max_batch_s=1.5)(waves)
    assert len(seen) == 5 and max(seen) == 32_000 and sorted(seen)[-2] <= 24_000


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 300))
def test_length_batches_hold_every_index_once(lengths: list[int], max_total: int) -> None:
    batches = list(length_batches(lengths, max_total))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_total


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 300), st.integers(1, 200))
def test_a_batch_with_enough_takes_in_no_row_that_is_much_shorter(
    lengths: list[int], max_total: int, enough: int
) -> None:
    batches = list(length_batches(lengths, max_total, enough=enough))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * longest <= max_total
        for place, index in enumerate(batch):
            assert longest * place < enough or lengths[index] >= 0.9 * longest


def test_on_a_cpu_little_is_padding_and_short_clips_are_read_together() -> None:
    seen: list[list[int]] = []

    class Spy(LogMelEncoder):
        def encode(self, waves):  # type: ignore[no-untyped-def]
            seen.append([len(wave) // 1600 for wave in waves])
            return super().encode(waves)

    lengths = [120, 118, 60, 59, 40, 10, 10, 9, 4]  # tenths of a second
    CodebookQuantizer(Spy(20), CENTROIDS)([np.zeros(1600 * n, np.float32) for n in lengths])
    assert seen == [[120, 118], [60, 59], [40], [10, 10, 9, 4]]


def test_bad_waves_are_the_users_error(quantizer: CodebookQuantizer) -> None:
    good = np.zeros(4000, np.float32)
    with pytest.raises(AudioError, match=r"5\.0 ms"):
        quantizer([good, np.zeros(80, np.float32)])
    with pytest.raises(AudioError, match="1 not finite"):
        quantizer([good, np.append(good, np.float32("nan"))])
    with pytest.raises(AudioError, match=r"shape \(4000, 1\)"):
        quantizer([good[:, None]])


def test_a_codebook_of_other_features_is_refused() -> None:
    with pytest.raises(UnitSpecMismatch, match="width"):
        CodebookQuantizer(LogMelEncoder(30), CENTROIDS)([np.zeros(4000, np.float32)])
