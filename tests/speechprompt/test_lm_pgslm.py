"""pGSLM and its streams: delays come off again, masks follow them, zeros stand for prosody that is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.batch import LabelledUnits, collate
from speechprompt.lm import load_lm
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_decode import StreamSampling, continue_streams
from speechprompt.lm.pgslm_streams import Streams, delayed, realigned, stream_batch, utterance_streams
from speechprompt.lm.prosody import F0Statistics, ProsodyConfig, f0_bins, f0_centres, normalized_f0
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.perplexity import perplexity
from speechprompt.prompted import PromptConfig, build_prompted
from speechprompt.vocab import UnitsFirstVocab, UnitVocab
from units.errors import InputError

VOCAB = UnitsFirstVocab(10)
CONTINUOUS = ProsodyConfig(duration_delay=1, f0_delay=2)
DISCRETE = ProsodyConfig(
    discrete_duration=True, discrete_f0=True, n_f0_bins=4, max_duration=6, duration_delay=1
)


def make_lm(prosody: ProsodyConfig, seed: int = 0, **config: object) -> PGSLM:
    transformer = TransformerConfig(2, 16, 2, 24, max_positions=64, **config)  # type: ignore[arg-type]
    lm = PGSLM(transformer, VOCAB, prosody).initialise(seed)
    lm.freeze()
    return lm


def example(prosody: ProsodyConfig, n: int = 6) -> Streams:
    generator = np.random.default_rng(n)
    f0 = generator.integers(0, 4, n) if prosody.discrete_f0 else generator.normal(size=n)
    units, durations = generator.integers(0, 10, n), generator.integers(1, 9, n)
    return utterance_streams(units, durations, f0, VOCAB, prosody)


def rows(streams: Streams) -> Streams:
    return Streams(streams.tokens[None], streams.durations[None], streams.f0[None])


def test_units_are_their_own_ids_and_specials_follow() -> None:
    assert (VOCAB.bos, VOCAB.pad, VOCAB.eos, VOCAB.unk, len(VOCAB)) == (10, 11, 12, 13, 14)
    assert VOCAB.encode([0, 9]).tolist() == [0, 9] == VOCAB.decode([0, 9]).tolist()
    assert UnitVocab.from_n_units(10) != VOCAB
    with pytest.raises(InputError, match="unit 10"):
        VOCAB.encode([10])
    with pytest.raises(InputError, match="token id 10"):
        VOCAB.decode([10])


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE, ProsodyConfig()])
def test_delays_come_off_again(prosody: ProsodyConfig) -> None:
    streams = example(prosody)
    shifted, padding = delayed(streams, VOCAB, prosody)
    assert len(shifted.tokens) == len(shifted.f0) == len(streams.tokens) + prosody.longest_delay
    for got, expected in zip(vars(realigned(shifted, prosody)).values(), vars(streams).values(), strict=True):
        assert got.tolist() == expected.tolist()
    for stream, pad in zip(vars(padding).values(), vars(shifted).values(), strict=True):
        assert int(stream.sum()) == prosody.longest_delay
        assert len(pad) == len(stream)


def test_a_target_counts_where_it_and_what_it_follows_are_real() -> None:
    batch = stream_batch([example(CONTINUOUS, 3), example(CONTINUOUS, 5)], VOCAB, CONTINUOUS)
    # 4 and 6 positions with <s>; 3 and 5 transitions in each stream, wherever its delay puts them
    assert [(~m).sum(1).tolist() for m in vars(batch.masked).values()] == [[3, 5]] * 3
    assert batch.n_tokens == (4 + 2 - 1) + (6 + 2 - 1)
    counted = ~batch.masked.durations
    assert batch.target.durations[0][counted[0]].tolist() == example(CONTINUOUS, 3).durations[1:].tolist()


def test_f0_is_filled_between_voiced_units_only_then_normalised() -> None:
    statistics = F0Statistics(mean=100.0, std=10.0, log_mean=np.log(100.0), log_std=0.5)
    hertz = np.array([0, 100, 0, 200, 0], dtype=np.float32)
    np.testing.assert_allclose(
        normalized_f0(hertz, CONTINUOUS, statistics), [0, 0, np.log(1.5), np.log(2), 0], atol=1e-6
    )
    linear = ProsodyConfig(interpolate_f0=False, log_f0=False, normalize_f0_std=True)
    np.testing.assert_allclose(normalized_f0(hertz, linear, statistics), [0, 0, 0, 10, 0], atol=1e-6)
    assert hertz.tolist() == [0, 100, 0, 200, 0]


def test_bins_and_centres_agree() -> None:
    edges = np.array([-1.0, 0.0, 2.0])
    assert f0_bins(np.array([-3.0, -1.0, -0.5, 1.0, 5.0], dtype=np.float32), edges).tolist() == [
        0,
        0,
        1,
        2,
        3,
    ]
    assert f0_bins(f0_centres(edges)[1:-1].astype(np.float32), edges).tolist() == [1, 2]
    assert f0_centres(edges).tolist() == [-1.0, -0.5, 1.0, 2.0]


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE])
def test_prosody_is_read_unless_the_model_does_without(prosody: ProsodyConfig) -> None:
    streams = rows(example(prosody))
    other = Streams(streams.tokens, torch.ones_like(streams.durations), torch.ones_like(streams.f0))
    lm = make_lm(prosody)
    assert not torch.equal(lm.read(streams).tokens, lm.read(other).tokens)
    deaf = make_lm(ProsodyConfig(**{**prosody.to_dict(), "duration_input": False, "f0_input": False}))
    torch.testing.assert_close(deaf.read(streams).tokens, deaf.read(other).tokens)
    # As a UnitLM it reads units alone, their prosody zero.
    units_alone = deaf.logits(deaf(deaf.embed(streams.tokens)))
    torch.testing.assert_close(units_alone, deaf.read(streams).tokens)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_row_begins_with_the_token_it_was_trained_on(positions: str) -> None:
    lm = make_lm(DISCRETE, positions=positions)
    units = [3, 1, 4]
    begun = lm.embed(torch.tensor([[VOCAB.eos, *units, VOCAB.bos]]))
    torch.testing.assert_close(
        begun, lm.embed(torch.tensor([[VOCAB.bos, *units, VOCAB.bos]])), rtol=0, atol=0
    )
    # A prompt's separator takes the place of the last `<s>`, not of what the row begins with.
    separator = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(1))
    prompted = lm.embed(torch.tensor([[VOCAB.eos, *units, VOCAB.bos]]), separator=separator)
    assert torch.equal(prompted[:, :-1], begun[:, :-1])
    moved = lm.embed_scale * (separator - lm.token_embedding(torch.tensor(VOCAB.bos)))
    torch.testing.assert_close(prompted[0, -1], begun[0, -1] + moved)
    # Behind padding a row begins where its first token is; later on `</s>` is itself.
    padded = lm.embed(torch.tensor([[VOCAB.pad, VOCAB.eos, *units, VOCAB.bos]]))
    torch.testing.assert_close(padded[:, 1:], begun)
    end, same_place = (
        lm.embed(torch.tensor([[token]]), n_before_B=torch.tensor([4])) for token in (VOCAB.eos, VOCAB.bos)
    )
    assert not torch.equal(end, same_place)
    assert torch.equal(lm.embed(torch.tensor([[VOCAB.eos, 3, VOCAB.eos]]))[:, 2], end_of(lm, 2))


def end_of(lm: PGSLM, n_before: int) -> torch.Tensor:
    """The embedding of `</s>` behind so many tokens."""
    return lm.embed(torch.tensor([[VOCAB.eos]]), n_before_B=torch.tensor([n_before]))[:, 0]


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE])
def test_perplexity_is_that_of_rows_as_trained(prosody: ProsodyConfig) -> None:
    lm, units = make_lm(prosody), np.array([3, 1, 4, 1, 5])
    source = torch.tensor([[VOCAB.bos, *units]])
    zeros = torch.zeros_like(source)
    logits = lm.read(Streams(source, zeros, zeros)).tokens[0]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([*units, VOCAB.eos])).exp()
    assert perplexity(lm, [units]) == pytest.approx(float(expected), rel=1e-5)


def test_a_prompted_row_begins_with_the_token_it_was_trained_on() -> None:
    lm = make_lm(DISCRETE)
    batch = collate([LabelledUnits(np.array([3, 1, 4]), 0)], np.array([0]), VOCAB)
    with torch.no_grad():
        prompted = build_prompted(lm, 2, PromptConfig(length=2)).eval()
        scores = prompted.label_logits(batch)
        lm.embed_tokens.weight[VOCAB.eos, 0] += 1
        assert torch.equal(prompted.label_logits(batch), scores)  # `</s>` is not read
        lm.embed_tokens.weight[VOCAB.bos, 0] += 1
        assert not torch.allclose(prompted.label_logits(batch), scores)  # `<s>` is


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE])
def test_losses_reach_every_weight_and_only_counted_targets(prosody: ProsodyConfig) -> None:
    lm = make_lm(prosody).requires_grad_(True)
    batch = stream_batch([example(prosody, 4), example(prosody, 6)], VOCAB, prosody)
    lm.losses(batch).weighted().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lm.parameters())
    batch.target.f0[batch.masked.f0] = 2
    again = lm.losses(batch)
    alone = [lm.losses(stream_batch([example(prosody, n)], VOCAB, prosody)) for n in (4, 6)]
    for name in ("tokens", "durations", "f0"):
        torch.testing.assert_close(getattr(again, name), sum(getattr(loss, name) for loss in alone))


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE])
def test_continuing_with_a_cache_is_reading_again(prosody: ProsodyConfig) -> None:
    lm, given = make_lm(prosody), rows(example(prosody))
    whole = continue_streams(lm, given, 5)
    logits = lm.read(whole)
    n = given.tokens.shape[1]
    assert whole.tokens[:, n:].tolist() == logits.tokens[:, n - 1 : -1].argmax(-1).tolist()
    if prosody.discrete_f0:
        assert whole.f0[:, n:].tolist() == logits.f0[:, n - 1 : -1].argmax(-1).tolist()
    else:
        torch.testing.assert_close(whole.f0[:, n:], logits.f0[:, n - 1 : -1, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prosody", [CONTINUOUS, DISCRETE])
def test_sampling_repeats_with_its_seed(prosody: ProsodyConfig) -> None:
    lm, given = make_lm(prosody), rows(example(prosody))
    first, same, other = (
        continue_streams(lm, given, 12, StreamSampling(1.0, 1.0, 1.0, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.tokens.tolist() == same.tokens.tolist() != other.tokens.tolist()
    assert first.f0.tolist() == same.f0.tolist() != other.f0.tolist()
    assert (first.durations[:, given.tokens.shape[1] :] >= 0).all()


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_saved_model_is_read_back_equal(tmp_path: Path, positions: str) -> None:
    prosody = ProsodyConfig(**{**DISCRETE.to_dict(), "f0_edges": [-1.0, 0.0, 1.5]})
    lm = make_lm(prosody, positions=positions)
    lm.save(tmp_path / "lm")
    again = load_lm(tmp_path / "lm")
    assert isinstance(again, PGSLM)
    assert (again.prosody, again.config, again.vocab) == (lm.prosody, lm.config, lm.vocab)
    assert again.fingerprint() == lm.fingerprint()
    streams = rows(example(prosody))
    torch.testing.assert_close(again.read(streams).f0, lm.read(streams).f0, rtol=0, atol=0)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="delays"):
        ProsodyConfig(f0_delay=-1)
    with pytest.raises(InputError, match="31 borders"):
        ProsodyConfig(f0_edges=(0.0,))
    with pytest.raises(InputError, match="as many durations"):
        utterance_streams(np.array([1, 2]), np.array([1]), np.array([0.0, 0.0]), VOCAB, CONTINUOUS)
    with pytest.raises(InputError, match="temperatures"):
        StreamSampling(token=-1)
    lm = make_lm(CONTINUOUS)
    with pytest.raises(InputError, match="at most 64"):
        continue_streams(lm, rows(example(CONTINUOUS)), 100)
    lm.save(tmp_path / "lm")
    (tmp_path / "lm" / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="model's weights"):
        PGSLM.load(tmp_path / "lm")
