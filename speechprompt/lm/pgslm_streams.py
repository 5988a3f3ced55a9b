"""The three streams that pGSLM reads and predicts: units, their durations, and their F0.

Durations and F0 lag behind the units by a delay each, so that a unit's prosody is predicted once the unit is known.
A row begins with `<s>`; positions where a stream has not begun, or has ended, hold its padding and are masked.

Shapes: T positions of a row, B rows.

Source: Kharitonov et al. 2022, "Text-Free Prosody-Aware Generative Spoken Language Modeling", section 3; the released
speech_unit_modeling task of fairseq.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechprompt.lm.prosody import DURATION_PADDING, ProsodyConfig, known_edges
from speechprompt.vocab import UnitsFirstVocab
from units.errors import InputError


@dataclass(frozen=True, eq=False)
class Streams:
    """Three streams of the same positions, (T,) or (B, T) each.

    tokens: int64 ids. durations: frames or classes. f0: numbers or classes. Classes are int64, numbers float32.
    """

    tokens: Tensor
    durations: Tensor
    f0: Tensor

    def columns(self, start: int | None, end: int | None) -> Streams:
        """Positions `start` to `end` of all streams."""
        return Streams(self.tokens[..., start:end], self.durations[..., start:end], self.f0[..., start:end])

    def to(self, device: torch.device | str) -> Streams:
        """The same streams on another device."""
        return Streams(self.tokens.to(device), self.durations.to(device), self.f0.to(device))


@dataclass(frozen=True, eq=False)
class StreamBatch:
    """Rows padded together. source, target: (B, T). masked: True where a target is none. lengths: (B,) int64."""

    source: Streams
    target: Streams
    masked: Streams
    lengths: Tensor

    @property
    def n_tokens(self) -> int:
        """Positions of all rows without padding: what a summed loss is divided by."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> StreamBatch:
        """The same batch on another device."""
        parts = (self.source.to(device), self.target.to(device), self.masked.to(device))
        return StreamBatch(*parts, self.lengths.to(device))


def utterance_streams(
    tokens_T: NDArray[np.int64],
    durations_T: NDArray[np.int64],
    f0_T: NDArray[np.floating[Any]] | NDArray[np.int64],
    vocab: UnitsFirstVocab,
    config: ProsodyConfig,
) -> Streams:
    """Put `<s>` before an utterance, not yet delayed: (T + 1,) each.

    Args:
        tokens_T: units, and `</s>` where the utterance is whole.
        durations_T: frames of each, 0 for `</s>`.
        f0_T: from `prosody.normalized_f0`, or from `prosody.f0_bins` where F0 is discrete.
        vocab: the model's.
        config: the model's.
    Raises: InputError for streams of unequal lengths.
    """
    if not len(tokens_T) == len(durations_T) == len(f0_T):
        raise InputError(
            f"streams: expected as many durations and F0 values as tokens, got {len(tokens_T)}, {len(durations_T)} "
            f"and {len(f0_T)}"
        )
    frames_T = np.asarray(durations_T)
    frames_T = np.minimum(frames_T, config.max_duration) if config.discrete_duration else frames_T
    return Streams(
        torch.as_tensor(np.append(vocab.bos, tokens_T), dtype=torch.int64),
        torch.as_tensor(np.append(0, frames_T), dtype=_dtype(config.discrete_duration)),
        torch.as_tensor(np.append(config.first_f0, f0_T), dtype=_dtype(config.discrete_f0)),
    )


def _dtype(discrete: bool) -> torch.dtype:
    return torch.int64 if discrete else torch.float32


def delayed(streams: Streams, vocab: UnitsFirstVocab, config: ProsodyConfig) -> tuple[Streams, Streams]:
    """Streams (.., T) to delayed streams (.., T + longest delay), and which of their positions are padding (bool)."""

    def shift(stream: Tensor, delay: int, padding: float) -> tuple[Tensor, Tensor]:
        before, after = delay, config.longest_delay - delay
        shifted = F.pad(stream, (before, after), value=padding)
        return shifted, F.pad(torch.zeros_like(stream, dtype=torch.bool), (before, after), value=True)

    parts = [
        shift(streams.tokens, 0, vocab.pad),
        shift(streams.durations, config.duration_delay, DURATION_PADDING),
        shift(streams.f0, config.f0_delay, config.f0_padding),
    ]
    return Streams(*(stream for stream, _ in parts)), Streams(*(padding for _, padding in parts))


def row_streams(
    ids_BT: Tensor, prosody_BT2: Tensor, vocab: UnitsFirstVocab, config: ProsodyConfig
) -> Streams:
    """What is read of rows that end in a prompt's separators, delayed and cut to their tokens: (B, T) each.

    A separator stands where `</s>` stands in training and has its prosody, 0. With a delay of 1 the last unit's comes
    with the first separator; with a longer one it has not come there yet, and is lost where no more separators follow.

    Args:
        ids_BT: see `UnitLM.embed_rows`.
        prosody_BT2: likewise.
        vocab: the model's.
        config: the model's.
    Raises: InputError for F0 bins whose borders are not known.
    """
    n_more = ids_BT.shape[1] - prosody_BT2.shape[1]
    durations_BT, f0_BT = F.pad(prosody_BT2, (0, 0, 0, n_more)).unbind(-1)
    if config.discrete_duration:
        durations_BT = durations_BT.clamp(max=config.max_duration).long()
    if config.discrete_f0 and config.f0_input:  # bins that are not read need no borders
        f0_BT = torch.bucketize(f0_BT.contiguous(), torch.from_numpy(known_edges(config)).to(f0_BT))
    f0_BT = torch.cat([torch.full_like(f0_BT[:, :1], config.first_f0), f0_BT[:, 1:]], dim=1)
    streams, _ = delayed(Streams(ids_BT, durations_BT, f0_BT), vocab, config)
    return streams.columns(None, ids_BT.shape[1])


def stream_batch(rows: Sequence[Streams], vocab: UnitsFirstVocab, config: ProsodyConfig) -> StreamBatch:
    """Delay utterances, split each into what is read and what follows it, and pad them on the right.

    A target counts only where it is real and the position it follows is real, too.
    """
    shifted = [delayed(row, vocab, config) for row in rows]
    sources = [streams.columns(None, -1) for streams, _ in shifted]
    targets = [streams.columns(1, None) for streams, _ in shifted]
    masks = [
        Streams(*(m[1:] | m[:-1] for m in (padding.tokens, padding.durations, padding.f0)))
        for _, padding in shifted
    ]

    def together(parts: list[Streams], pads: tuple[float, float, float]) -> Streams:
        return Streams(
            pad_sequence([p.tokens for p in parts], batch_first=True, padding_value=pads[0]),
            pad_sequence([p.durations for p in parts], batch_first=True, padding_value=pads[1]),
            pad_sequence([p.f0 for p in parts], batch_first=True, padding_value=pads[2]),
        )

    pads = (vocab.pad, DURATION_PADDING, config.f0_padding)
    return StreamBatch(
        together(sources, pads),
        together(targets, pads),
        together(masks, (True, True, True)),
        torch.tensor([len(source.tokens) for source in sources]),
    )


def realigned(streams: Streams, config: ProsodyConfig) -> Streams:
    """Undo the delays: what is left has T - longest delay positions, each with its own duration and F0."""
    n_positions = streams.tokens.shape[-1] - config.longest_delay

    def part(stream: Tensor, delay: int) -> Tensor:
        return stream[..., delay : delay + n_positions]

    return Streams(
        part(streams.tokens, 0),
        part(streams.durations, config.duration_delay),
        part(streams.f0, config.f0_delay),
    )
