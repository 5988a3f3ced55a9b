"""Measures of generated speech: pitch and spectrum along an alignment, repetition, BLEU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.aligned import aligned_measures, alignment, compare_recordings
from tasks.metrics.bleu import bleu_measures
from tasks.metrics.diversity import auto_bleu, diversity_measures, self_bleu
from tasks.metrics.f0_error import f0_difference, f0_measures, speech_f0
from tasks.metrics.mel_cepstrum import mel_cepstral_distance
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio
from units.compiled_librosa import compiled_librosa
from units.errors import InputError

RATE = 16_000


def voiced(f0_hz: float, seconds: float = 0.5) -> np.ndarray:
    """A buzz of twenty harmonics."""
    time = np.arange(round(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * k * f0_hz * time) / k for k in range(1, 20)).astype(np.float32) * 0.1


def test_a_semitone_is_a_hundred_cents() -> None:
    low, high = (speech_f0(voiced(f0), RATE) for f0 in (120.0, 120.0 * 2 ** (1 / 12)))
    measures = f0_measures([f0_difference(low, high)])
    assert measures["f0_error_cents"] == pytest.approx(100, abs=12)
    same = f0_measures([f0_difference(low, low)], prefix="gap_")
    assert same["gap_f0_error_cents"] == same["gap_voicing_error"] == 0


def test_f0_counts_frames_voiced_in_one_alone_and_adds_recordings_before_dividing() -> None:
    none, octave = np.zeros(4), np.array([0, 100.0, 100.0, 200.0])
    other = np.array([100.0, 200.0, 100.0, 0])
    one = f0_difference(octave, other)
    assert (one.squared_cents, one.n_voiced, one.n_flipped, one.n_frames) == (1200.0**2, 2, 2, 4)
    silent = f0_difference(none, none)
    both = f0_measures([one, silent, silent])
    assert both["f0_error_cents"] == pytest.approx(1200 / math.sqrt(2))
    assert both["voicing_error"] == pytest.approx(2 / 12)
    low, high = both["voicing_error_interval_95"]
    assert low <= 2 / 12 <= high
    unknown = f0_measures([silent])
    assert unknown["f0_error_cents"] is None and unknown["f0_error_cents_interval_95"] is None
    with pytest.raises(InputError, match="align"):
        f0_difference(none, none[1:])


def test_slower_speech_is_the_same_speech_once_aligned() -> None:
    wave = read_audio(READ_SENTENCE)[RATE : 2 * RATE]
    slower = compiled_librosa().effects.time_stretch(wave, rate=0.8)
    direct = mel_cepstral_distance(wave, slower, RATE)
    near = compare_recordings(wave, slower, RATE)
    assert near.mel_cepstral_distance < 0.6 * direct
    other = compare_recordings(wave, read_audio(READ_SENTENCE)[3 * RATE : 4 * RATE], RATE)
    assert near.mel_cepstral_distance < other.mel_cepstral_distance
    f0 = f0_measures([near.f0])
    assert f0["f0_error_cents"] < 150 and f0["voicing_error"] < 0.2
    same = aligned_measures([(wave, wave)], RATE)
    assert same["aligned_mel_cepstral_distance"] == same["aligned_f0_error_cents"] == 0
    with pytest.raises(InputError, match="at most 30 s"):
        compare_recordings(np.zeros(31 * RATE, np.float32), wave, RATE)


def test_an_alignment_goes_from_the_first_frames_to_the_last() -> None:
    rng = np.random.default_rng(0)
    first_CF = rng.normal(size=(3, 7))
    second_CF = np.repeat(first_CF, [1, 3, 1, 2, 1, 1, 4], axis=1)
    first_S, second_S = alignment(first_CF, second_CF)
    np.testing.assert_array_equal(first_CF[:, first_S], second_CF[:, second_S])
    assert (first_S[0], second_S[0], first_S[-1], second_S[-1]) == (0, 0, 6, 12)
    assert (np.diff(first_S) >= 0).all() and (np.diff(second_S) >= 0).all()


WORDS = st.lists(st.sampled_from("abc"), max_size=8)


@given(WORDS, st.sampled_from([1, 2, 3]))
def test_auto_bleu_is_the_published_one(sentence: list[str], n: int) -> None:
    grams = [tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1)]

    def again(place: int) -> bool:
        before = [tuple(sentence[i : i + n]) for i in range(place - n + 1)]
        after = [tuple(sentence[i : i + n]) for i in range(place + n, len(sentence) - n + 1)]
        return grams[place] in before + after

    expected = sum(map(again, range(len(grams)))) / max(1, len(grams)) if len(sentence) > 1 else 0
    # The longest n-grams alone: all means over one length are that length's share.
    shares = auto_bleu(sentence, max_n=n, mean="arithmetic") * n - (
        auto_bleu(sentence, max_n=n - 1, mean="arithmetic") * (n - 1) if n > 1 else 0
    )
    assert shares == pytest.approx(expected, abs=1e-9)


@given(st.lists(WORDS, min_size=2, max_size=5))
def test_self_bleu_is_bleu_against_all_others(sentences: list[list[str]]) -> None:
    for i, value in enumerate(self_bleu(sentences, mean="geometric")):
        precisions = []
        for n in (1, 2):
            counts: list[dict[tuple[str, ...], int]] = []
            for sentence in sentences:
                grams = [tuple(sentence[k : k + n]) for k in range(len(sentence) - n + 1)]
                counts.append({gram: grams.count(gram) for gram in grams})
            matched = sum(
                min(times, max(c.get(gram, 0) for j, c in enumerate(counts) if j != i))
                for gram, times in counts[i].items()
            )
            precisions.append(matched / max(1, sum(counts[i].values())))
        assert value == pytest.approx(math.sqrt(precisions[0] * precisions[1]))


def test_vert_is_high_for_stuttering_and_zero_for_all_different_words() -> None:
    stutter = [list("abababab")] * 5
    assert diversity_measures(stutter)["vert"] == 1
    different = [list(range(10 * i, 10 * i + 10)) for i in range(5)]
    assert diversity_measures(different)["vert"] == 0
    rng = np.random.default_rng(0)
    random = diversity_measures([rng.integers(0, 30, 40).tolist() for _ in range(20)])
    few = diversity_measures([rng.integers(0, 8, 40).tolist() for _ in range(20)])
    for measures in (random, few):
        assert measures["vert"] == pytest.approx(math.sqrt(measures["auto_bleu"] * measures["self_bleu"]))
        low, high = measures["vert_interval_95"]
        assert low < measures["vert"] < high
    assert random["vert"] < few["vert"]
    with pytest.raises(InputError, match="at least 2"):
        diversity_measures([["a"]])


def test_bleu_is_sacrebleus_and_its_interval_is_over_sentences() -> None:
    targets = ["the cat sat on the mat", "there is a house", "we went home late at night"]
    predictions = ["the cat sat on a mat", "there is a house", "late we went home"]
    measures = bleu_measures(targets, predictions, name="asr_bleu")
    low, high = measures["asr_bleu_interval_95"]
    assert low < measures["asr_bleu"] < high <= 100 + 1e-9
    assert bleu_measures(targets, targets)["bleu"] == pytest.approx(100)
    one = bleu_measures(targets[:1], predictions[:1])  # of six words five are right, of n-grams 3/5, 2/4, 1/3
    assert one["bleu"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert "tok:13a" in measures["asr_bleu_signature"]
    with pytest.raises(InputError, match="predictions"):
        bleu_measures(targets, predictions[:2])
