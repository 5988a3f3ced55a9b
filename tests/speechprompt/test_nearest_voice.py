"""The voice that fills a gap is the vocoder's that sounds most like the recording."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from speechprompt.generate.nearest_voice import loudest, nearest_voice
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.types import Wave


@pytest.fixture(scope="module")
def mini() -> Stack:
    return load_stack("mini")


def chosen(stack: Stack, wave_N: Wave) -> str | None:
    [units] = stack.quantize([wave_N], deduplicate=False)
    return nearest_voice(stack, wave_N, units)


def test_most_digits_are_given_the_voice_of_who_said_them(mini: Stack) -> None:
    rows = random.Random(0).sample(get_task("spoken_digits").utterances("test"), 12)
    assert len({row.speaker for row in rows}) >= 4
    right = [chosen(mini, mini.read(row.path)) == row.speaker for row in rows if row.path is not None]
    assert np.mean(right) >= 0.5  # of 21 voices


def test_what_a_voice_said_is_given_that_voice(mini: Stack) -> None:
    [units] = mini.quantize([READ_SENTENCE])
    assert mini.vocoder.sample_rate == mini.quantizer.sample_rate
    for voice in ("reader", "slt", "kal16", "jackson"):
        assert chosen(mini, np.float32(0.2) * mini.vocoder(units, voice)) == voice


def test_nothing_to_compare_is_no_voice(mini: Stack, tiny_stack: Path) -> None:
    [units] = mini.quantize([READ_SENTENCE], deduplicate=False)
    assert nearest_voice(mini, np.zeros(320 * len(units), dtype=np.float32), units) is None
    tiny = load_stack(tiny_stack)
    assert len(tiny.vocoder.speakers) < 2
    assert chosen(tiny, tiny.read(READ_SENTENCE)) is None


def test_the_loudest_passage_is_found() -> None:
    wave_N = np.full(1_000, 0.01, dtype=np.float32)
    wave_N[420:700] = 0.5
    assert loudest(wave_N, 100, 28) == (42, 70)
    assert loudest(wave_N, 100, 500) == (0, 100)
