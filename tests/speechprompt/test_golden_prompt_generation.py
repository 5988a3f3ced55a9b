"""What imported SpeechPrompt prompts generate after `<s>`, against tokens, scores and logits of the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.beam import BeamConfig, Hypothesis
from speechprompt.beam_prompted import beam_answers
from speechprompt.convert.prompts import N_SPECIALS
from speechprompt.prompted import PromptedLM
from tests.speechprompt.reference_prompts import VARIANTS, prompted_and_linear

LOGITS = {"atol": 1e-4, "rtol": 1e-4}
SEARCH = re.compile(r"gen_(?:greedy|topk1|beam(?P<beam>\d+))_tokens")
FILL = -99  # of ragged rows of predicted classes
MARGIN = 1e-3  # classes closer than this may change places with float rounding
N_NEW = 12  # tokens, where the reference gives no length


@pytest.fixture(scope="module", params=VARIANTS)
def prompt(request: pytest.FixtureRequest, golden: Path) -> tuple[str, PromptedLM, Tensor | None, Any]:
    """A golden folder's name, its prompt, linear verbalizer and arrays."""
    prompted, linear = prompted_and_linear(golden, request.param)
    return request.param, prompted, linear, np.load(golden / request.param / "golden.npz")


def unit_rows(prompted: PromptedLM, data: Any) -> list[np.ndarray]:
    """The units between `</s>` and `<s>` of each row to go on from."""
    ends = zip(data["gen_src_tokens"], data["gen_src_lengths"], strict=True)
    return [prompted.lm.vocab.decode(ids[1 : length - 1]) for ids, length in ends]


def read_again(prompted: PromptedLM, hypothesis: Hypothesis) -> Tensor:
    """Log probabilities (T, V) of each next token, all of a hypothesis read at once."""
    ids_BT = torch.tensor([[prompted.lm.vocab.eos, *hypothesis.ids[:-1]]])
    with torch.no_grad():
        hidden_BSD, column_BT = prompted.hidden(ids_BT)
        return prompted.lm.logits(hidden_BSD[0, column_BT[0]]).log_softmax(-1)


def test_golden_generated_tokens_and_scores(prompt: tuple[str, PromptedLM, Tensor | None, Any]) -> None:
    variant, prompted, _, data = prompt
    searches = [(match, name) for name in data if (match := SEARCH.fullmatch(name))]
    if not searches:
        pytest.skip(
            f"{variant}: no generated tokens; the reference has none with an infix prompt or linear verbalizer"
        )
    for match, name in searches:
        tokens, root = data[name], name.removesuffix("_tokens")
        config = BeamConfig(beam=int(match["beam"] or 1), max_length=tokens.shape[2] - 1)
        found = beam_answers(prompted, unit_rows(prompted, data), config)
        for row, expected, score, log_probs in zip(
            found, tokens, data[f"{root}_score"], data[f"{root}_positional_scores"], strict=True
        ):
            assert [h.ids.tolist() for h in row] == [ids[ids >= 0].tolist() for ids in expected]
            np.testing.assert_allclose([h.score for h in row], score, **LOGITS)
            for hypothesis, each in zip(row, log_probs, strict=True):
                # Differences of float32 sums.
                np.testing.assert_allclose(
                    hypothesis.log_probs, each[: len(hypothesis.ids)], atol=2e-4, rtol=1e-4
                )


def test_golden_rows_generate_what_reading_them_at_once_predicts(
    prompt: tuple[str, PromptedLM, Tensor | None, Any],
) -> None:
    """For infix prompts, too, which the reference itself cannot generate with."""
    _, prompted, _, data = prompt
    end, pad = prompted.lm.vocab.eos, prompted.lm.vocab.pad
    rows = unit_rows(prompted, data)
    config = BeamConfig(beam=1, max_length=max(map(len, rows)) + 1 + N_NEW)
    for units, [hypothesis] in zip(rows, beam_answers(prompted, rows, config), strict=True):
        log_prob_TV = read_again(prompted, hypothesis)
        n_forced = len(units) + 1
        assert len(hypothesis.ids) > n_forced
        chosen_T = torch.from_numpy(hypothesis.ids)[n_forced:]
        got_T = torch.from_numpy(hypothesis.log_probs)[n_forced:]
        torch.testing.assert_close(got_T, log_prob_TV[n_forced:].gather(1, chosen_T[:, None])[:, 0], **LOGITS)
        log_prob_TV[:, pad] = -torch.inf
        greedy_T = log_prob_TV[n_forced:].argmax(1)
        if len(hypothesis.ids) > config.max_length:  # made to end
            chosen_T, greedy_T = chosen_T[:-1], greedy_T[:-1]
        assert chosen_T.tolist() == greedy_T.tolist()
        assert hypothesis.ids[-1] == end


def test_golden_logits_of_one_row(prompt: tuple[str, PromptedLM, Tensor | None, Any]) -> None:
    variant, prompted, linear, data = prompt
    if "one_logits" not in data:
        pytest.skip(f"{variant}: no arrays of a single row")
    with torch.no_grad():
        logits_BSC = prompted.lm.logits(prompted.hidden(torch.from_numpy(data["one_src_tokens"]))[0])
        logits_BSC = logits_BSC if linear is None else F.linear(logits_BSC, linear)
    expected_BSC = torch.from_numpy(data["one_logits"])
    # Beside a deep prefix our rows hold no prompt positions, the reference's do.
    torch.testing.assert_close(
        logits_BSC, expected_BSC[:, expected_BSC.shape[1] - logits_BSC.shape[1] :], **LOGITS
    )


def test_golden_classes_of_a_linear_verbalizer(prompt: tuple[str, PromptedLM, Tensor | None, Any]) -> None:
    """The logits at `<s>`, and the classes of gen_linear_predictions up to where the reference itself is unsure.

    Later classes depend on each one before them, so a row is compared as far as no two classes tie.
    """
    variant, prompted, linear, data = prompt
    if linear is None:
        pytest.skip(f"{variant}: no linear verbalizer")
    for units, expected_C, expected_S in zip(
        unit_rows(prompted, data), data["gen_next_logits"], data["gen_linear_predictions"], strict=True
    ):
        vocab = prompted.lm.vocab
        ids = [vocab.eos, *vocab.encode(units), vocab.bos]
        for step, expected in enumerate(expected_S):
            with torch.no_grad():
                hidden_BSD, column_BT = prompted.hidden(torch.tensor([ids]))
                logits_C = F.linear(prompted.lm.logits(hidden_BSD[0, column_BT[0, -1]]), linear)
            if step == 0:
                torch.testing.assert_close(logits_C, torch.from_numpy(expected_C), **LOGITS)
            first, second = logits_C.topk(2)[0].tolist()
            if expected == FILL or first - second < MARGIN:
                break
            ids.append(int(logits_C.argmax()))  # the class is read as the token of the same number
            assert ids[-1] - N_SPECIALS == expected, f"step {step}"
