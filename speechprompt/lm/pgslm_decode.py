"""Continuing the three streams of pGSLM, position by position, with a cache.

Shapes: B rows, T positions given, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speechprompt.lm.cache import Prefix
from speechprompt.lm.pgslm import PGSLM, StreamLogits
from speechprompt.lm.pgslm_streams import Streams
from units.errors import InputError


@dataclass(frozen=True)
class StreamSampling:
    """How the next position is chosen; a temperature of 0 takes the most probable value, or the predicted number.

    Attributes:
        token, duration, f0: temperature of each stream. Published for discrete prosody: 0.7, 0.25, 0.7. A continuous
            stream is drawn from a Laplace distribution around the prediction, its scale the temperature.
        seed: of the draws.
    Raises: InputError for a negative temperature.
    """

    token: float = 0.0
    duration: float = 0.0
    f0: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.token, self.duration, self.f0) < 0:
            raise InputError(f"sampling: expected temperatures of at least 0, got {self}")


@torch.no_grad()
def continue_streams(
    lm: PGSLM,
    given: Streams,
    n_steps: int,
    sampling: StreamSampling | None = None,
    *,
    prefix: Prefix | None = None,
) -> Streams:
    """Append `n_steps` positions to delayed streams (B, T), all rows equally long; (B, T + n_steps).

    Any token may come, `</s>` and the other special ones too, and a continuous duration may be negative where nothing
    is drawn: `pgslm_streams.realigned` undoes the delays, the caller cuts at `</s>`.

    Args:
        lm: in evaluation mode.
        given: `<s>` first; at least one position.
        n_steps: positions to append.
        sampling: how to choose; None takes the most probable values.
        prefix: of a deep prompt.
    Raises: InputError for streams longer than the model's max_positions.
    """
    sampling = sampling or StreamSampling()
    n_rows, n_given = given.tokens.shape
    if n_given + n_steps - 1 > lm.max_positions:
        raise InputError(
            f"continuation: expected at most {lm.max_positions} positions, got {n_given} + {n_steps}; shorten one"
        )
    generator = torch.Generator(device=lm.device).manual_seed(sampling.seed)
    cache = lm.new_cache(n_rows, n_given + n_steps, prefix=prefix)
    new, n_before_B = given, torch.zeros(n_rows, dtype=torch.int64, device=lm.device)
    for _ in range(n_steps):
        padding_BT = new.tokens.eq(lm.vocab.pad)
        x_BTD = lm.embed(new.tokens, n_before_B=n_before_B, durations_BT=new.durations, f0_BT=new.f0)
        hidden_BTD = lm(x_BTD, cache=cache, key_padding_mask=padding_BT if bool(padding_BT.any()) else None)
        n_before_B = n_before_B + (~padding_BT).sum(1)
        new = _choose(lm, lm.stream_logits(hidden_BTD[:, -1:]), sampling, generator)
        given = Streams(
            torch.cat([given.tokens, new.tokens], dim=1),
            torch.cat([given.durations, new.durations], dim=1),
            torch.cat([given.f0, new.f0], dim=1),
        )
    return given


def _choose(lm: PGSLM, logits: StreamLogits, sampling: StreamSampling, generator: torch.Generator) -> Streams:
    """One new position (B, 1) of each stream."""
    prosody = lm.prosody
    tokens = _draw_class(logits.tokens, sampling.token, generator)
    if prosody.discrete_duration:
        durations = _draw_class(logits.durations, sampling.duration, generator)
    else:
        durations = _draw_number(logits.durations, sampling.duration, generator, lowest=0.0).round()
    if prosody.discrete_f0:
        f0 = _draw_class(logits.f0, sampling.f0, generator)
    else:
        f0 = _draw_number(logits.f0, sampling.f0, generator)
    return Streams(tokens, durations, f0)


def _draw_class(logits_B1C: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits_B1C.argmax(-1)
    probability_BC = (logits_B1C[:, 0].float() / temperature).softmax(-1)
    return torch.multinomial(probability_BC, 1, generator=generator)


def _draw_number(
    mean_B11: Tensor, scale: float, generator: torch.Generator, lowest: float | None = None
) -> Tensor:
    """Draw from Laplace(mean, scale), cut off below `lowest`, by its inverse distribution function."""
    mean_B1 = mean_B11[:, :, 0].float()
    if scale == 0:
        return mean_B1
    uniform_B1 = torch.rand(mean_B1.shape, generator=generator, device=mean_B1.device, dtype=torch.float64)
    laplace = torch.distributions.Laplace(mean_B1.double(), scale)
    if lowest is not None:
        below_B1 = laplace.cdf(torch.full_like(uniform_B1, lowest))
        uniform_B1 = below_B1 + uniform_B1 * (1 - below_B1)
    tiny = torch.finfo(torch.float64).eps
    drawn_B1 = laplace.icdf(uniform_B1.clamp(tiny, 1 - tiny))
    return (drawn_B1 if lowest is None else drawn_B1.clamp(min=lowest)).float()
