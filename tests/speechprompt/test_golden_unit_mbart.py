"""Unit mBART converted from a checkpoint of the reference: states, logits, generation, denoising batch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechprompt.beam import BeamConfig, beam_search
from speechprompt.convert.unit_mbart import convert
from speechprompt.fairseq import read_fairseq
from speechprompt.lm.denoising import DenoisingConfig, damaged, denoising_batch
from speechprompt.lm.encoder_decoder import Memory
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.lm.unit_mbart_decode import MBartDecoder

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
# The reference asked for no repeated n-grams in one search, and on a CPU lets them all pass.
SEARCH = re.compile(
    r"gen_(?P<kind>default|bos_lang|eos_lang|prefix)(?:_lenpen(?P<penalty>[\d.]+))?(?:_norepeat\d+)?_beam(?P<beam>\d+)_tokens"
)


@pytest.fixture(scope="module")
def data(golden: Path) -> Any:
    return np.load(golden / "unit_mbart" / "golden.npz")


@pytest.fixture(scope="module")
def spec(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "unit_mbart" / "spec.json").read_text())["config"]


@pytest.fixture(scope="module")
def model(golden: Path, spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> UnitMBart:
    """Converted, written, and read back."""
    folder = tmp_path_factory.mktemp("mbart") / "lm"
    checkpoint = read_fairseq(golden / "unit_mbart" / "checkpoint.pt")
    converted = convert(checkpoint, folder, dictionary=golden / "unit_mbart" / "dict.txt")
    assert converted.dictionary_size == spec["vocab"]
    assert converted.dimensions["languages"] == spec["langs"].split(",")
    assert converted.dimensions["encoder"]["n_layers"] == spec["enc"]
    assert converted.dimensions["decoder"]["n_layers"] == spec["dec"]
    left_out = sum(checkpoint.model[name].numel() for name in converted.ignored)
    assert converted.n_parameters == sum(t.numel() for t in checkpoint.model.values()) - left_out
    model = UnitMBart.load(folder).freeze()
    assert model.n_parameters() == converted.n_parameters
    return model


@pytest.fixture(scope="module")
def memory(model: UnitMBart, data: Any) -> Memory:
    return model.encode(torch.from_numpy(data["src_tokens"]))


def close_where_real(got: Tensor, expected: np.ndarray, ids: np.ndarray, pad: int) -> None:
    real = torch.from_numpy(ids).ne(pad)
    torch.testing.assert_close(got[..., real, :], torch.from_numpy(expected)[..., real, :], **CLOSE)


def test_encoder_states_are_the_reference_s(model: UnitMBart, data: Any) -> None:
    ids, pad = data["src_tokens"], model.vocab.pad
    states: list[Tensor] = []
    memory = model.encode(torch.from_numpy(ids), states=states)
    close_where_real(torch.stack(states), data["encoder_states"], ids, pad)
    close_where_real(memory.hidden_BSD, data["encoder_out"], ids, pad)
    embedding = model.encoder.scale * model.encoder.embed_tokens(torch.from_numpy(ids))
    close_where_real(embedding, data["encoder_embedding"], ids, pad)
    assert (~memory.allowed[:, 0, 0]).tolist() == data["encoder_padding_mask"].tolist()


def test_decoder_states_and_logits_are_the_reference_s(model: UnitMBart, memory: Memory, data: Any) -> None:
    ids, pad = data["prev_output_tokens"], model.vocab.pad
    states: list[Tensor] = []
    hidden_BTD = model.decode(torch.from_numpy(ids), memory, states=states)
    close_where_real(torch.stack(states), data["decoder_inner_states"], ids, pad)
    close_where_real(model.logits(hidden_BTD), data["logits"], ids, pad)


def start_token(model: UnitMBart, memory: Memory, first: np.ndarray, log_prob: np.ndarray) -> int:
    """Which of `</s>` and the language tags the reference began with: the one that gives its first scores."""
    tags = [model.vocab.language_id(language) for language in model.vocab.languages]
    fits = []
    for start in (model.vocab.eos, *tags):
        logits_BV = model.logits(model.decode(torch.full((len(first), 1), start), memory))[:, 0]
        got = logits_BV.log_softmax(-1)[range(len(first)), first].numpy()
        if np.allclose(got, log_prob, atol=1e-4, rtol=1e-4):
            fits.append(start)
    assert len(fits) == 1
    return fits[0]


def test_generation_is_the_reference_s(model: UnitMBart, memory: Memory, data: Any) -> None:
    searches = [(match, name) for name in data if (match := SEARCH.fullmatch(name))]
    assert {match["kind"] for match, _ in searches} >= {"default", "bos_lang", "eos_lang"}
    for match, name in searches:
        tokens = data[name]
        log_probs = data[name.replace("tokens", "positional_scores")]
        start = start_token(model, memory, tokens[:, 0, 0], log_probs[:, 0, 0])
        assert (start == model.vocab.eos) == (match["kind"] == "default")
        end = start if match["kind"] == "eos_lang" else model.vocab.eos
        config = BeamConfig(
            int(match["beam"]), tokens.shape[2] - 1, length_penalty=float(match["penalty"] or 1)
        )
        forced = (
            list(data["prefix_tokens"]) if match["kind"] == "prefix" else [np.zeros(0, int)] * len(tokens)
        )
        decoder = MBartDecoder(model, memory, config.max_length)
        found = beam_search(decoder, forced, start=start, end=end, config=config)
        for row, expected, scores in zip(found, tokens, data[name.replace("tokens", "score")], strict=True):
            assert [h.ids.tolist() for h in row] == [ids[ids >= 0].tolist() for ids in expected], name
            np.testing.assert_allclose([h.score for h in row], scores, atol=1e-4, rtol=1e-4)


def without_padding(rows: np.ndarray, pad: int) -> list[np.ndarray]:
    return [row[row != pad] for row in rows]


def test_the_denoising_batch_is_the_reference_s(model: UnitMBart, data: Any) -> None:
    vocab = model.vocab
    sources = without_padding(data["denoise_src_tokens"], vocab.pad)
    targets = without_padding(data["denoise_target"], vocab.pad)
    # The first shall be last among rows of unequal length; rows of equal length keep their order.
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    batch = denoising_batch([sources[i] for i in order], [targets[i] for i in order], vocab)
    assert batch.source_BS.tolist() == data["denoise_src_tokens"].tolist()
    assert batch.previous_BT.tolist() == data["denoise_prev_output_tokens"].tolist()
    assert batch.target_BT.tolist() == data["denoise_target"].tolist()
    tags = {vocab.language_id(language) for language in vocab.languages}
    generator = np.random.default_rng(0)
    for target, source in zip(targets, sources, strict=True):
        assert {source[-1], target[-1]} <= tags
        ours = damaged(target, vocab, DenoisingConfig(), generator)
        assert ours[0] == source[0] == vocab.bos
        assert ours[-1] == source[-1]
        assert vocab.mask in ours
        assert len(ours) <= len(target) + len(target) // 2
