"""Unit mBART: padding and cache change nothing, prefixes reach both sides, folders are read back equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.beam import BeamConfig, beam_search
from speechprompt.lm.denoising import (
    DenoisingConfig,
    damaged,
    denoising_batch,
    denoising_target,
)
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.lm.unit_mbart_decode import MBartDecoder
from speechprompt.vocab import MBartVocab
from units.errors import InputError

VOCAB = MBartVocab([str(unit) for unit in range(20)], ["en_XX", "es_XX"])
SOURCE = torch.tensor([[0, 5, 6, 7, 8, 2, 24], [0, 9, 2, 25, 1, 1, 1]])
TARGET = torch.tensor([[24, 0, 5, 6, 2], [25, 0, 9, 2, 1]])


def make_model(*, tied: bool = True, scaled: bool = True, **kinds: bool) -> UnitMBart:
    torch.manual_seed(0)
    both = {"activation": "gelu", "positions": "learned", "tied": tied, "scale_embedding": scaled}
    encoder = TransformerConfig(2, 16, 2, 24, max_positions=32, **both)  # type: ignore[arg-type]
    decoder = TransformerConfig(3, 16, 4, 24, max_positions=24, **both)  # type: ignore[arg-type]
    model = UnitMBart(MBartConfig(encoder, decoder, **kinds), VOCAB)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model.freeze()


def test_tags_and_mask_follow_the_units() -> None:
    assert [VOCAB.language_id("en_XX"), VOCAB.language_id("es_XX"), VOCAB.mask, len(VOCAB)] == [
        24,
        25,
        26,
        27,
    ]
    assert VOCAB.unit_symbols == tuple(str(unit) for unit in range(20))
    assert VOCAB.unit_ids.tolist() == list(range(4, 24))
    with pytest.raises(InputError, match="en_XX, es_XX"):
        VOCAB.language_id("fr_XX")


def test_padding_changes_nothing() -> None:
    model = make_model()
    together = model(SOURCE, TARGET)
    alone = model(SOURCE[1:, :4], TARGET[1:, :4])
    torch.testing.assert_close(together[1:, :4], alone, atol=1e-5, rtol=1e-5)


def test_decoding_with_a_cache_is_reading_at_once() -> None:
    model = make_model()
    memory = model.encode(SOURCE)
    at_once = model.decode(TARGET[:, :4], memory)
    cache = model.new_cache(2, 4)
    steps = [model.decode(TARGET[:, [t]], memory, cache=cache) for t in range(4)]
    torch.testing.assert_close(torch.cat(steps, dim=1), at_once, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_prefix_steers_its_side_and_learns(side: str) -> None:
    model = make_model()
    part = model.encoder if side == "encoder" else model.decoder
    vectors = torch.randn(2, part.config.n_layers, 3, 16, generator=torch.Generator().manual_seed(1))
    vectors.requires_grad_()
    prefix = part.prefix(vectors[0], vectors[1])
    logits = model(SOURCE, TARGET, **{f"{side}_prefix": prefix})
    assert (logits - model(SOURCE, TARGET)).abs().max() > 1e-3
    logits.logsumexp(-1).sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.flatten(2).abs().sum(-1) > 0).all()


def test_a_prefix_is_seen_from_padded_rows_and_from_the_cache_too() -> None:
    model = make_model()
    generator = torch.Generator().manual_seed(1)
    encoder, decoder = (
        part.prefix(*torch.randn(2, part.config.n_layers, 3, 16, generator=generator))
        for part in (model.encoder, model.decoder)
    )
    together = model(SOURCE, TARGET, encoder_prefix=encoder, decoder_prefix=decoder)
    alone = model(SOURCE[1:, :4], TARGET[1:, :4], encoder_prefix=encoder, decoder_prefix=decoder)
    torch.testing.assert_close(together[1:, :4], alone, atol=1e-5, rtol=1e-5)
    memory = model.encode(SOURCE, prefix=encoder)
    cache = model.new_cache(2, 5, prefix=decoder)
    stepped = [model.logits(model.decode(TARGET[:, [t]], memory, cache=cache)) for t in range(4)]
    torch.testing.assert_close(torch.cat(stepped, dim=1), together[:, :4], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="belongs to the cache"):
        model.decode(TARGET, memory, prefix=decoder, cache=cache)


def test_searching_rows_together_is_searching_each_alone() -> None:
    model = make_model()
    config = BeamConfig(beam=3, max_length=9)
    forced = [np.zeros(0, int)] * 2

    def search(source: torch.Tensor, rows: list[np.ndarray]) -> list[list[list[int]]]:
        decoder = MBartDecoder(model, model.encode(source), config.max_length)
        found = beam_search(decoder, rows, start=2, end=2, config=config)
        return [[h.ids.tolist() for h in row] for row in found]

    together = search(SOURCE, forced)
    assert together == search(SOURCE[:1], forced[:1]) + search(SOURCE[1:, :4], forced[:1])
    # A row of one hypothesis' tokens, read at once, gives the search's own log probabilities.
    memory = model.encode(SOURCE[:1])
    [[best, *_]] = beam_search(MBartDecoder(model, memory, 9), forced[:1], start=2, end=2, config=config)
    log_prob = model.logits(model.decode(torch.tensor([[2, *best.ids[:-1]]]), memory)).log_softmax(-1)[0]
    np.testing.assert_allclose(best.log_probs, log_prob[range(len(best.ids)), best.ids].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "kinds",
    [
        {},
        {"share_embedding": False},
        {"share_embedding": False, "tied": False},
        {"tied": False, "norm_embedding": False, "scaled": False},
    ],
)
def test_a_saved_model_is_read_back_equal(tmp_path: Path, kinds: dict[str, bool]) -> None:
    model = make_model(**kinds)
    model.save(tmp_path / "lm")
    again = UnitMBart.load(tmp_path / "lm")
    assert (again.config, again.vocab, again.vocab.languages) == (model.config, model.vocab, VOCAB.languages)
    assert again.n_parameters() == model.n_parameters()
    torch.testing.assert_close(again(SOURCE, TARGET), model(SOURCE, TARGET), rtol=0, atol=0)


def test_folders_and_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(InputError, match="at most 32"):
        model.encode(torch.full((1, 33), 5))
    model.save(tmp_path / "lm")
    file = tmp_path / "lm" / "config.json"
    config = json.loads(file.read_text())
    config["mbart"]["norm_embedding"] = False
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match="layernorm_embedding"):
        UnitMBart.load(tmp_path / "lm")
    file.write_text(json.dumps({"family": "unit_mbart"}))
    with pytest.raises(InputError, match="KeyError"):
        UnitMBart.load(tmp_path / "lm")
    with pytest.raises(InputError, match="one width"):
        MBartConfig(TransformerConfig(1, 8, 2, 8), TransformerConfig(1, 16, 2, 8))


def test_damage_masks_the_share_asked_for_and_keeps_the_ends() -> None:
    units = np.arange(20).repeat(20)
    target = denoising_target(units, "es_XX", VOCAB)
    assert target[[0, -2, -1]].tolist() == [VOCAB.bos, VOCAB.eos, 25]
    assert (
        damaged(target, VOCAB, DenoisingConfig(masked=0), np.random.default_rng(0)).tolist()
        == target.tolist()
    )
    config = DenoisingConfig(random=0)
    source = damaged(target, VOCAB, config, np.random.default_rng(0))
    assert source[[0, -1]].tolist() == [VOCAB.bos, 25]
    kept = (source != VOCAB.mask).sum() / len(target)
    assert 0.6 < kept < 0.75  # spans may overlap, so a little less than 35 % goes
    only_random = damaged(target, VOCAB, DenoisingConfig(random=1), np.random.default_rng(0))
    assert (only_random == VOCAB.mask).sum() < 10
    for seed in range(20):  # the shortest rows, too
        short = damaged(
            denoising_target(units[:1], "en_XX", VOCAB), VOCAB, config, np.random.default_rng(seed)
        )
        assert short[[0, -1]].tolist() == [VOCAB.bos, 24]
    with pytest.raises(InputError, match="shares"):
        DenoisingConfig(masked=1.5)


def test_a_mask_for_every_token_tells_how_much_is_missing() -> None:
    target = denoising_target(np.arange(20).repeat(10), "en_XX", VOCAB)
    config = DenoisingConfig(random=0, mean_span=9, mask_each=True)
    for seed in range(20):
        source = damaged(target, VOCAB, config, np.random.default_rng(seed))
        masked = source == VOCAB.mask
        assert len(source) == len(target)
        assert source[~masked].tolist() == target[~masked].tolist()
        assert 0.2 < masked.mean() <= 0.36 and not masked[[0, -1]].any()
        n_spans = int((np.diff(masked.astype(int)) == 1).sum())
        assert masked.sum() / n_spans > 5  # spans, not single tokens


def test_a_shaken_number_of_masks_stays_near_that_of_the_tokens_and_fits_the_positions() -> None:
    target = denoising_target(np.arange(20).repeat(10), "en_XX", VOCAB)
    config = DenoisingConfig(random=0, mean_span=9, mask_each=True, shaken=0.4)
    exact = replace(config, shaken=0.0)
    n_positions = 232
    assert config.longest_target(n_positions) == len(target) == 203
    longer = []
    for seed in range(50):
        source = damaged(target, VOCAB, config, np.random.default_rng(seed))
        even = damaged(target, VOCAB, exact, np.random.default_rng(seed))
        masked, wanted = source == VOCAB.mask, even == VOCAB.mask
        assert source[~masked].tolist() == even[~wanted].tolist()  # nothing else is lost or moved
        assert 0.6 * wanted.sum() <= masked.sum() <= 1.4 * wanted.sum()
        assert len(source) <= n_positions
        longer.append(int(masked.sum() - wanted.sum()))
    assert min(longer) < 0 < max(longer)
    with pytest.raises(InputError, match="mask_each"):
        DenoisingConfig(shaken=0.2)


def test_new_weights_look_at_the_place_that_is_written_and_hand_it_on() -> None:
    side = TransformerConfig(2, 64, 4, 64, max_positions=64, activation="gelu", positions="learned")
    vocab = MBartVocab([str(unit) for unit in range(20)], ["und"])
    model = UnitMBart(MBartConfig(side, side), vocab).initialise(0).eval()
    rng = np.random.default_rng(0)
    rows = [denoising_target(rng.integers(20, size=40), "und", vocab) for _ in range(8)]
    batch = denoising_batch(rows, rows, vocab)
    memory, states = model.encode(batch.source_BS), []
    model.decode(batch.previous_BT, memory, states=states)
    attention, norm = model.cross_attentions()[0], model.decoder.layers[0].encoder_attn_layer_norm
    query_BHTE = attention.split(attention.q_proj(norm(states[0])))
    place_BHT = (query_BHTE @ memory.key_LBHSE[0].mT).argmax(-1)
    off_BHT = (place_BHT - torch.arange(place_BHT.shape[2])).abs()
    assert (off_BHT[..., 3:40] <= 2).float().mean() > 0.5  # of 43 places
    torch.testing.assert_close(attention.out_proj.weight, attention.v_proj.weight.T)


def test_the_decoder_reads_the_tag_first() -> None:
    rows = [denoising_target(np.arange(n), "en_XX", VOCAB) for n in (2, 4)]
    batch = denoising_batch(rows, rows, VOCAB)
    assert batch.target_BT.tolist() == [[0, 4, 5, 6, 7, 2, 24], [0, 4, 5, 2, 24, 1, 1]]
    assert batch.previous_BT.tolist() == [[24, 0, 4, 5, 6, 7, 2], [24, 0, 4, 5, 2, 1, 1]]
