"""Beam search of the unit LM against what the reference implementation found, tokens and scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt.beam import BeamConfig, Hypothesis, beam_search
from speechprompt.beam_lm import LMDecoder, beam_continuations
from speechprompt.convert.gslm import read_gslm
from speechprompt.decode import SamplingConfig, generate
from speechprompt.fairseq import read_fairseq
from speechprompt.lm.gslm import GSLM

SEARCH = re.compile(
    r"(?P<half>fp16_)?(?:greedy|beam(?P<beam>\d+)|sampling_topk1)(?:_lenpen(?P<penalty>[\d.]+))?(?:_temp(?P<t>[\d.]+))?"
    r"(?:_minlen(?P<minimum>\d+))?_tokens"
)


@pytest.fixture(scope="module")
def ulm(golden: Path) -> Any:
    return np.load(golden / "ulm" / "golden.npz")


@pytest.fixture(scope="module")
def spec(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "ulm" / "spec.json").read_text())


@pytest.fixture(scope="module")
def language_models(golden: Path) -> dict[bool, GSLM]:
    """In full precision (False), and of weights stored in half precision (True)."""
    models = {}
    for half, name in ((False, "cfg_dict.pt"), (True, "args_namespace_half.pt")):
        models[half] = read_gslm(read_fairseq(golden / "ulm" / name))[0]
        models[half].freeze()
    return models


def forced_rows(ulm: Any) -> list[np.ndarray]:
    return [
        row[1:length] for row, length in zip(ulm["prefix_src_tokens"], ulm["prefix_src_lengths"], strict=True)
    ]


def max_length(spec: dict[str, Any], tokens: np.ndarray) -> int:
    said = re.search(r"max_len_b=(\d+)", " ".join(spec["notes"]))
    return int(said.group(1)) if said else tokens.shape[2] - 1


def assert_found(found: list[list[Hypothesis]], tokens: np.ndarray) -> None:
    for row, expected in zip(found, tokens, strict=True):
        assert [h.ids.tolist() for h in row] == [ids[ids >= 0].tolist() for ids in expected]


def test_beam_search_finds_the_reference_s_hypotheses(
    language_models: dict[bool, GSLM], ulm: Any, spec: dict[str, Any]
) -> None:
    searches = [(match, name) for name in ulm if (match := SEARCH.fullmatch(name))]
    assert len(searches) >= 4
    for match, name in searches:
        tokens, lm = ulm[name], language_models[bool(match["half"])]
        config = BeamConfig(
            beam=int(match["beam"] or 1),
            max_length=max_length(spec, tokens),
            min_length=int(match["minimum"] or 1),
            length_penalty=float(match["penalty"] or 1),
            temperature=float(match["t"] or 1),
        )
        decoder = LMDecoder(lm, config.max_length)
        found = beam_search(decoder, forced_rows(ulm), start=lm.vocab.eos, end=lm.vocab.eos, config=config)
        assert_found(found, tokens)
        if (score := name.replace("_tokens", "_score")) not in ulm:
            continue
        for row, expected, each in zip(
            found, ulm[score], ulm[name.replace("_tokens", "_positional_scores")], strict=True
        ):
            np.testing.assert_allclose([h.score for h in row], expected, atol=1e-4, rtol=1e-4)
            for hypothesis, log_probs in zip(row, each, strict=True):
                n = len(hypothesis.ids)
                np.testing.assert_allclose(hypothesis.log_probs, log_probs[:n], atol=2e-4, rtol=1e-4)


def test_units_are_continued_as_their_tokens_are(
    language_models: dict[bool, GSLM], ulm: Any, spec: dict[str, Any]
) -> None:
    lm, tokens = language_models[False], ulm["beam5_tokens"]
    units = [lm.vocab.decode(row) for row in forced_rows(ulm)]
    assert_found(beam_continuations(lm, units, BeamConfig(5, max_length(spec, tokens))), tokens)


def test_sampling_among_one_is_the_reference_s_while_it_emits_units(
    language_models: dict[bool, GSLM], ulm: Any
) -> None:
    lm = language_models[False]
    for row, expected in zip(forced_rows(ulm), ulm["sampling_topk1_tokens"][:, 0], strict=True):
        expected = expected[len(row) :]
        special = np.flatnonzero(expected < 4)[0]  # the end at the latest
        if special:
            config = SamplingConfig(max_units=int(special), top_k=1, min_units=int(special))
            continued = generate(lm, [lm.vocab.decode(row)], config)[0]
            assert lm.vocab.encode(continued).tolist() == expected[:special].tolist()


def test_a_search_forgets_the_one_before_it(language_models: dict[bool, GSLM], ulm: Any) -> None:
    """The reference fails where a narrow beam follows a wide one."""
    lm = language_models[False]
    decoder = LMDecoder(lm, 20)
    end = lm.vocab.eos
    rows = forced_rows(ulm)
    fresh = beam_search(LMDecoder(lm, 20), rows, start=end, end=end, config=BeamConfig(1, 20))
    beam_search(decoder, rows, start=end, end=end, config=BeamConfig(5, 20))
    again = beam_search(decoder, rows, start=end, end=end, config=BeamConfig(1, 20))
    assert [h[0].ids.tolist() for h in again] == [h[0].ids.tolist() for h in fresh]
    assert torch.isfinite(torch.tensor([h[0].score for h in again])).all()
