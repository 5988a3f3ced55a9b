from __future__ import annotations

import numpy as np
import pytest
import torch

from speechprompt import decode
from speechprompt.decode import ENDED, SamplingConfig, choose, generate, penalised, stream
from speechprompt.lm.base import UnitLM
from speechprompt.lm.gslm import GSLM
from units.errors import InputError

SEEDS = [np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4, 5, 6, 7, 8, 9])]
LOG_PROBABILITY = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def share_of_choices(config: SamplingConfig, n_draws: int = 4000) -> np.ndarray:
    """How often each of the four choices comes when the uniform draws cover [0, 1) evenly."""
    uniform = (torch.arange(n_draws, dtype=torch.float64) + 0.5) / n_draws
    chosen = choose(LOG_PROBABILITY.expand(n_draws, -1), uniform, config)
    return np.bincount(chosen.numpy(), minlength=4) / n_draws


@torch.no_grad()
@pytest.mark.parametrize("with_prefix", [False, True])
@pytest.mark.parametrize("read_tokens", [decode._READ_TOKENS, 6])
def test_greedy_decoding_with_a_cache_equals_running_everything_at_every_step(
    lm: GSLM, with_prefix: bool, read_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_READ_TOKENS", read_tokens)
    vectors = torch.randn(lm.n_layers, 3, lm.d_model, generator=torch.Generator().manual_seed(0))
    prefix = lm.prefix(vectors, vectors) if with_prefix else None
    config = SamplingConfig(max_units=12, greedy=True, allow_end=False)
    for seed, new in zip(SEEDS, generate(lm, SEEDS, config, prefix=prefix), strict=True):
        units = seed.tolist()
        for _ in range(12):
            ids = np.concatenate([[lm.vocab.eos], lm.vocab.encode(units)])
            logits_V = lm.logits(lm(lm.embed(torch.from_numpy(ids)[None]), prefix=prefix))[0, -1]
            units.append(int(lm.vocab.decode([4 + int(logits_V[4:].argmax())])[0]))
        assert new.tolist() == units[len(seed) :]


def test_a_row_s_result_does_not_depend_on_its_batch(lm: GSLM) -> None:
    config = SamplingConfig(max_units=20, seed=4, allow_end=False)
    together = generate(lm, SEEDS, config)
    assert together[0].tolist() == generate(lm, SEEDS[:1], config)[0].tolist()
    assert together[1].tolist() == generate(lm, SEEDS[:2], config)[1].tolist()


def test_seeds_read_in_parts_are_continued_as_seeds_read_at_once(
    any_lm: UnitLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SamplingConfig(max_units=8, seed=3, allow_end=False)
    at_once = generate(any_lm, SEEDS, config)
    monkeypatch.setattr(decode, "_READ_TOKENS", 6)  # two columns of three rows
    for whole, parts in zip(at_once, generate(any_lm, SEEDS, config), strict=True):
        assert whole.tolist() == parts.tolist()


def test_the_seed_repeats_and_changes_what_is_drawn(lm: GSLM) -> None:
    def draw(seed: int) -> list[int]:
        return generate(lm, SEEDS[:1], SamplingConfig(max_units=20, seed=seed, temperature=2.0))[0].tolist()

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1


def test_rows_of_one_batch_with_equal_seeds_differ(lm: GSLM) -> None:
    config = SamplingConfig(max_units=20, temperature=2.0, allow_end=False)
    first, second = generate(lm, [SEEDS[0], SEEDS[0]], config)
    assert first.tolist() != second.tolist()


def test_streaming_gives_the_same_units_step_by_step(lm: GSLM) -> None:
    config = SamplingConfig(max_units=15, seed=2)
    steps = list(stream(lm, SEEDS, config))
    assert all(step.shape == (3,) for step in steps)
    rows = np.stack(steps).T
    for row, new in zip(rows, generate(lm, SEEDS, config), strict=True):
        assert row[row != ENDED].tolist() == new.tolist()
        ended = np.flatnonzero(row == ENDED)
        assert not len(ended) or (row[ended[0] :] == ENDED).all()


def test_only_units_come_and_no_more_than_asked_for(lm: GSLM) -> None:
    for seed in range(10):
        for new in generate(lm, SEEDS, SamplingConfig(max_units=9, temperature=5.0, seed=seed)):
            assert len(new) <= 9
            assert ((new >= 0) & (new < 20)).all()


def test_a_model_that_always_ends_is_held_up_to_the_least_length(lm: GSLM) -> None:
    with torch.no_grad():
        lm.layer_norm.weight.zero_()
        lm.layer_norm.bias.copy_(100 * lm.embed_tokens.weight[lm.vocab.eos])
    assert [len(row) for row in generate(lm, SEEDS, SamplingConfig(max_units=9))] == [0, 0, 0]
    assert [len(row) for row in generate(lm, SEEDS, SamplingConfig(max_units=9, min_units=4))] == [4, 4, 4]
    assert [len(row) for row in generate(lm, SEEDS, SamplingConfig(max_units=9, allow_end=False))] == [
        9,
        9,
        9,
    ]


def test_sampling_follows_the_distribution() -> None:
    np.testing.assert_allclose(share_of_choices(SamplingConfig()), [0.5, 0.3, 0.15, 0.05], atol=1e-3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SamplingConfig(top_k=2), [0.625, 0.375, 0, 0]),
        (SamplingConfig(top_k=1), [1, 0, 0, 0]),
        (SamplingConfig(top_k=9), [0.5, 0.3, 0.15, 0.05]),
        (SamplingConfig(top_p=0.5), [1, 0, 0, 0]),
        (SamplingConfig(top_p=0.6), [0.625, 0.375, 0, 0]),
        (SamplingConfig(top_p=1e-6), [1, 0, 0, 0]),
        (SamplingConfig(greedy=True), [1, 0, 0, 0]),
        (SamplingConfig(temperature=0.5), np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365),
        (SamplingConfig(temperature=1e-3), [1, 0, 0, 0]),
        (SamplingConfig(top_k=3, top_p=0.8), np.array([0.5, 0.3, 0, 0]) / 0.8),
    ],
)
def test_options_cut_or_sharpen_the_distribution(config: SamplingConfig, expected: list[float]) -> None:
    np.testing.assert_allclose(share_of_choices(config), expected, atol=2e-3)


def test_a_choice_of_probability_zero_never_comes() -> None:
    log_probability = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert choose(log_probability.expand(3, -1), uniform, SamplingConfig()).tolist() == [1, 1, 1]


def test_the_penalty_falls_on_units_heard_in_the_window_and_never_on_the_end() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.5]])
    choices, heard = torch.tensor([4, 5, 6, 2]), torch.tensor([[2, 5, 6, 6]])
    plain = penalised(logits, choices, heard, SamplingConfig())
    every = penalised(logits, choices, heard, SamplingConfig(repetition_penalty=2))
    last_two = penalised(logits, choices, heard, SamplingConfig(repetition_penalty=2, repetition_window=2))
    torch.testing.assert_close(every / plain, torch.tensor([[1.0, 2.0, 2.0, 1.0]]))
    torch.testing.assert_close(last_two / plain, torch.tensor([[1.0, 1.0, 2.0, 1.0]]))


@pytest.mark.parametrize(
    "options",
    [
        {"max_units": 0},
        {"min_units": 300},
        {"temperature": 0},
        {"temperature": -1},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"repetition_penalty": 0.5},
        {"repetition_window": 0},
        {"seed": -1},
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sampling: expected"):
        SamplingConfig(**options)


def test_a_continuation_may_fill_the_model_and_not_more(lm: GSLM) -> None:
    config = SamplingConfig(max_units=60, allow_end=False)
    assert len(generate(lm, [np.arange(4)], config)[0]) == 60
    with pytest.raises(InputError, match="at most 64 tokens"):
        generate(lm, [np.arange(5)], config)


def test_an_unknown_unit_is_refused_and_nothing_to_do_is_fine(lm: GSLM) -> None:
    with pytest.raises(InputError, match="unit 20"):
        generate(lm, [np.array([20])], SamplingConfig(max_units=3))
    assert generate(lm, [], SamplingConfig()) == []
