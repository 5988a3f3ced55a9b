"""Sampling of units from a unit language model, token by token, with a cache.

Shapes: B rows, T tokens given, U choices (the units, and `</s>` where a row may end).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import KVCache, Prefix
from units.errors import InputError

ENDED = -1  # stands for a row that has ended, in the steps of `stream`
# Tokens of the seeds that a CPU reads at once, all rows together: products gain nothing from more, and what the layers
# hold meanwhile grows with it.
_READ_TOKENS = 512


@dataclass(frozen=True)
class SamplingConfig:
    """How the next unit is chosen.

    Attributes:
        max_units: most new units of a row.
        min_units: a row cannot end before this many new units.
        greedy: take the most probable unit; temperature, top_k, top_p and seed then have no effect.
        temperature: below 1 sharpens the distribution, above 1 flattens it.
        top_k: keep this many most probable units; 0 keeps all.
        top_p: keep the fewest most probable units that together reach this probability; 1 keeps all.
        repetition_penalty: at least 1; log probabilities of units heard before are multiplied by it.
        repetition_window: how many last units count as heard before; None for all.
        allow_end: whether the model may end a row with `</s>`; otherwise every row gets max_units units.
        seed: of the draws. Row i of a batch draws from its own stream, so its result does not depend on the others.
    Raises: InputError for values outside their range.
    """

    max_units: int = 200
    min_units: int = 0
    greedy: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    repetition_window: int | None = None
    allow_end: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        expected = {
            "max_units of at least 1": self.max_units >= 1,
            "min_units from 0 to max_units": 0 <= self.min_units <= self.max_units,
            "a temperature above 0 (or greedy)": self.temperature > 0,
            "top_k of at least 0": self.top_k >= 0,
            "top_p above 0, at most 1": 0 < self.top_p <= 1,
            "repetition_penalty of at least 1": self.repetition_penalty >= 1,
            "repetition_window of at least 1": self.repetition_window is None or self.repetition_window >= 1,
            "a seed of at least 0": self.seed >= 0,
        }
        for what, holds in expected.items():
            if not holds:
                raise InputError(f"sampling: expected {what}, got {self}")


def generate(
    lm: UnitLM, rows: Sequence[np.ndarray], config: SamplingConfig, *, prefix: Prefix | None = None
) -> list[np.ndarray]:
    """Continue unit rows.

    Args:
        lm: the language model, in evaluation mode.
        rows: unit numbers (T,) int64 to continue; an empty one starts from nothing.
        config: how to choose.
        prefix: of a deep prompt, see `UnitLM.prefix`.
    Returns: the new units of each row, int64 (at most max_units,), specials left out.
    Raises: InputError for unknown units, or rows too long for the model.
    """
    if not rows:
        return []
    steps = list(stream(lm, rows, config, prefix=prefix))
    steps_SB = np.stack(steps) if steps else np.empty((0, len(rows)), dtype=np.int64)
    return [row[row != ENDED] for row in steps_SB.T]


@torch.no_grad()
def stream(
    lm: UnitLM, rows: Sequence[np.ndarray], config: SamplingConfig, *, prefix: Prefix | None = None
) -> Iterator[np.ndarray]:
    """Continue unit rows, giving each step as it is made: (B,) int64 unit numbers, ENDED for rows that have ended.

    Arguments and errors are those of `generate`; at least one row.
    """
    ids_BT = _left_padded(lm, rows)
    if ids_BT.shape[1] + config.max_units - 1 > lm.max_positions:
        raise InputError(
            f"continuation: expected seed and new units of at most {lm.max_positions} tokens together, "
            f"got {ids_BT.shape[1]} + {config.max_units}; shorten one of them"
        )
    vocab = lm.vocab
    choices = np.append(vocab.unit_ids, vocab.eos) if config.allow_end else vocab.unit_ids
    choice_U = torch.from_numpy(choices).to(lm.device)
    uniform_BS = np.stack(
        [np.random.default_rng((config.seed, i)).random(config.max_units) for i in range(len(rows))]
    )
    cache = lm.new_cache(len(rows), ids_BT.shape[1] + config.max_units - 1, prefix=prefix)
    n_before_B = ids_BT.ne(vocab.pad).sum(1)
    hidden_B1D = _read(lm, ids_BT, cache)
    heard_BT, ended_B = ids_BT, torch.zeros(len(rows), dtype=torch.bool, device=lm.device)
    for step in range(config.max_units):
        logits_BU = lm.logits(hidden_B1D[:, 0].float(), choice_U)
        if config.allow_end and step < config.min_units:
            logits_BU[:, -1] = -torch.inf
        uniform_B = torch.from_numpy(uniform_BS[:, step]).to(lm.device)
        next_B = choice_U[choose(penalised(logits_BU, choice_U, heard_BT, config), uniform_B, config)]
        ended_B = ended_B | next_B.eq(vocab.eos)
        if bool(ended_B.all()):
            return
        running = ~ended_B.cpu().numpy()
        units_B = np.full(len(rows), ENDED, dtype=np.int64)
        units_B[running] = vocab.decode(next_B.cpu().numpy()[running])
        yield units_B
        if step + 1 < config.max_units:
            heard_BT = torch.cat([heard_BT, next_B[:, None]], dim=1)
            hidden_B1D = lm(lm.embed(next_B[:, None], n_before_B=n_before_B + step), cache=cache)


def _read(lm: UnitLM, ids_BT: Tensor, cache: KVCache) -> Tensor:
    """Fill the cache with the rows given; the final hidden state of their last tokens, (B, 1, D)."""
    n_rows, n_tokens = ids_BT.shape
    at_once = max(1, _READ_TOKENS // n_rows) if lm.device.type == "cpu" else n_tokens
    embedded_BTD, padding_BT = lm.embed(ids_BT), ids_BT.eq(lm.vocab.pad)
    is_padded = bool(padding_BT.any())
    for start in range(0, n_tokens, at_once):
        part = slice(start, min(start + at_once, n_tokens))
        hidden_B1D = lm(
            embedded_BTD[:, part],
            cache=cache,
            read_positions=torch.full((n_rows, 1), part.stop - part.start - 1, device=lm.device),
            key_padding_mask=padding_BT[:, part] if is_padded else None,
        )
    return hidden_B1D


def penalised(logits_BU: Tensor, choice_U: Tensor, heard_BT: Tensor, config: SamplingConfig) -> Tensor:
    """Log probabilities (B, U), those of units among the last heard ones made smaller.

    Source: Keskar et al. 2019 (CTRL), section 4.1, on log probabilities, which are never positive and do not change
    when all logits are shifted.
    """
    log_probability_BU = logits_BU.log_softmax(-1)
    if config.repetition_penalty == 1:
        return log_probability_BU
    recent_BT = heard_BT if config.repetition_window is None else heard_BT[:, -config.repetition_window :]
    heard_BU = (recent_BT[:, :, None] == choice_U).any(1)
    if config.allow_end:
        heard_BU[:, -1] = False  # `</s>` at the start of a row is no unit that was heard
    return torch.where(heard_BU, log_probability_BU * config.repetition_penalty, log_probability_BU)


def choose(log_probability_BU: Tensor, uniform_B: Tensor, config: SamplingConfig) -> Tensor:
    """Pick one choice per row: indices (B,) int64.

    Source of top_p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".

    Args:
        log_probability_BU: need not be normalised.
        uniform_B: float64 in [0, 1), where in the cumulated distribution to look.
        config: how to choose.
    """
    if config.greedy:
        return log_probability_BU.argmax(-1)
    probability_BU = (log_probability_BU.double() / config.temperature).softmax(-1)
    sorted_BU, order_BU = probability_BU.sort(stable=True, dim=-1, descending=True)
    if config.top_k:
        sorted_BU[:, config.top_k :] = 0
    if config.top_p < 1:
        sorted_BU = sorted_BU / sorted_BU.sum(-1, keepdim=True)
        sorted_BU[sorted_BU.cumsum(-1) - sorted_BU >= config.top_p] = 0
    cumulated_BU = sorted_BU.cumsum(-1)
    place_B1 = torch.searchsorted(cumulated_BU, uniform_B[:, None] * cumulated_BU[:, -1:], right=True)
    return order_BU.gather(1, place_B1.clamp(max=order_BU.shape[1] - 1))[:, 0]


def _left_padded(lm: UnitLM, rows: Sequence[np.ndarray]) -> Tensor:
    """Rows `</s> u1 .. un` padded on the left, so that all of them end in the same column: (B, T) int64."""
    longest = max(len(row) for row in rows) + 1
    ids = np.full((len(rows), longest), lm.vocab.pad, dtype=np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[longest - len(row) - 1] = lm.vocab.eos
        line[longest - len(row) :] = lm.vocab.encode(row)
    return torch.from_numpy(ids).to(lm.device)
