from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechprompt.lm.gslm import GSLM
from speechprompt.perplexity import perplexity, rows_of, unigram_perplexity
from speechprompt.vocab import UnitVocab

VOCAB = UnitVocab.from_n_units(20)


@given(st.lists(st.integers(0, 19), max_size=40), st.integers(1, 12))
def test_pieces_of_a_long_row_predict_every_token_once(units: list[int], max_positions: int) -> None:
    rows = rows_of([np.array(units, dtype=np.int64)], VOCAB, max_positions)
    assert all(2 <= len(row) <= max_positions + 1 for row in rows)
    assert np.concatenate([row[1:] for row in rows]).tolist() == [*VOCAB.encode(units), VOCAB.eos]
    assert rows[0][0] == VOCAB.eos
    assert all(second[0] == first[-1] for first, second in pairwise(rows))


@torch.no_grad()
def test_perplexity_is_that_of_each_row_alone(lm: GSLM) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(20, size=n) for n in (1, 12, 5, 30)]
    total = 0.0
    for units in sequences:
        ids = torch.from_numpy(np.concatenate([[2], VOCAB.encode(units), [2]]))
        log_probability_TV = lm.logits(lm(lm.embed(ids[None, :-1])))[0].log_softmax(-1)
        total -= float(log_probability_TV[torch.arange(len(ids) - 1), ids[1:]].sum())
    expected = math.exp(total / (48 + 4))
    assert perplexity(lm.train(), sequences, batch_tokens=40) == pytest.approx(expected, rel=1e-5)
    assert lm.training


def test_equally_frequent_units_are_as_perplexing_as_they_are_many() -> None:
    vocab = UnitVocab.from_n_units(4)
    every = [np.arange(4)] * 1000
    assert unigram_perplexity(every, every, vocab, 64) == pytest.approx(5, rel=1e-3)  # four units and the end
    never_seen = unigram_perplexity([np.array([0, 1, 2])] * 100, [np.array([3])], vocab, 64)
    assert 5 < never_seen < math.inf


def test_nothing_to_measure_is_not_a_number(lm: GSLM) -> None:
    assert math.isnan(perplexity(lm, []))
    assert math.isnan(unigram_perplexity([np.arange(3)], [], VOCAB, 64))
