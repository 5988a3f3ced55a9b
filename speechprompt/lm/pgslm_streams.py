"""The three streams that pGSLM reads and predicts: units, their durations, and their F0.

Durations and F0 lag behind the units by a delay each, so that a unit's prosody is predicted once the unit is known.
A row begins with `<s>`; positions where a stream has not begun, or has ended, hold its padding and are masked.

Shapes: T positions of a row, B rows, E edges between F0 bins.

Source: Kharitonov et al. 2022, "Text-Free Prosody-Aware Generative Spoken Language Modeling", section 3; the released
speech_unit_modeling task of fairseq.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechprompt.vocab import SPECIALS, UnitsFirstVocab
from units.errors import InputError

DURATION_PADDING = 0
F0_PADDING = -5.0  # of a continuous F0 stream; far below every normalised logarithm


@dataclass(frozen=True)
class ProsodyConfig:
    """How durations and F0 are given to a model and predicted by it.

    Attributes:
        discrete_duration: durations are classes 0 .. max_duration, else numbers of frames.
        discrete_f0: F0 is one of n_f0_bins classes, else a number.
        max_duration: longer durations count as this, where they are classes.
        n_f0_bins: classes of F0.
        duration_input, f0_input: False where the model predicts the stream without reading it: it reads zeros.
        duration_delay, f0_delay: positions that the stream lags behind the units.
        interpolate_f0: fill unvoiced units between voiced ones on a straight line.
        log_f0: take the natural logarithm of F0.
        normalize_f0_mean, normalize_f0_std: take off the speaker's mean; divide by the speaker's deviation.
        f0_edges: borders between the F0 bins, ascending; None where they are not known.
    Raises: InputError for values outside their range.
    """

    discrete_duration: bool = False
    discrete_f0: bool = False
    max_duration: int = 20
    n_f0_bins: int = 32
    duration_input: bool = True
    f0_input: bool = True
    duration_delay: int = 0
    f0_delay: int = 0
    interpolate_f0: bool = True
    log_f0: bool = True
    normalize_f0_mean: bool = True
    normalize_f0_std: bool = False
    f0_edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.f0_edges is not None:
            object.__setattr__(self, "f0_edges", tuple(self.f0_edges))
            if len(self.f0_edges) != self.n_f0_bins - 1:
                raise InputError(
                    f"prosody: expected {self.n_f0_bins - 1} borders between {self.n_f0_bins} F0 bins, got "
                    f"{len(self.f0_edges)}; mend the configuration"
                )
        if min(self.max_duration, self.n_f0_bins) < 1 or min(self.duration_delay, self.f0_delay) < 0:
            raise InputError(
                f"prosody: expected max_duration and n_f0_bins >= 1 and delays >= 0, got {self}; mend the configuration"
            )

    @property
    def longest_delay(self) -> int:
        """Positions that a row is longer than its units."""
        return max(self.duration_delay, self.f0_delay)

    @property
    def n_duration_classes(self) -> int:
        """Duration channels of the output: classes and special tokens, or one number."""
        return self.max_duration + 1 + len(SPECIALS) if self.discrete_duration else 1

    @property
    def n_f0_classes(self) -> int:
        """F0 channels of the output: classes and special tokens, or one number."""
        return self.n_f0_bins + len(SPECIALS) if self.discrete_f0 else 1

    @property
    def first_f0(self) -> float:
        """F0 of `<s>`: the class `<s>`, which follows the bins, or zero."""
        return self.n_f0_bins if self.discrete_f0 else 0.0

    @property
    def f0_padding(self) -> float:
        """F0 where there is none: the class `<pad>`, or a number that no voice has."""
        return self.n_f0_bins + 1 if self.discrete_f0 else F0_PADDING

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for config.json; ProsodyConfig(**d) reads it back."""
        return asdict(self)


@dataclass(frozen=True)
class F0Statistics:
    """A speaker's voiced F0: mean and deviation in Hz, and those of its natural logarithm."""

    mean: float
    std: float
    log_mean: float
    log_std: float


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


def normalized_f0(
    f0_T: NDArray[np.float32], config: ProsodyConfig, statistics: F0Statistics
) -> NDArray[np.float32]:
    """A unit's F0 in Hz, 0 where unvoiced, to what the model takes (or bins); what stays unvoiced stays 0.

    Unvoiced units before the first and after the last voiced one are not filled.
    """
    f0_T = np.asarray(f0_T, dtype=np.float32)
    voiced_T = f0_T != 0
    if config.interpolate_f0 and voiced_T.sum() > 1:
        place_T = np.arange(len(f0_T))
        f0_T = np.interp(place_T, place_T[voiced_T], f0_T[voiced_T], left=0.0, right=0.0).astype(np.float32)
        voiced_T = f0_T != 0
    value_V = np.log(f0_T[voiced_T]) if config.log_f0 else f0_T[voiced_T]
    if config.normalize_f0_mean:
        value_V = value_V - np.float32(statistics.log_mean if config.log_f0 else statistics.mean)
    if config.normalize_f0_std:
        value_V = value_V / np.float32(statistics.log_std if config.log_f0 else statistics.std)
    result_T = np.zeros_like(f0_T)
    result_T[voiced_T] = value_V
    return result_T


def f0_bins(f0_T: NDArray[np.float32], edges_E: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each value: how many edges lie below it, from 0 to E."""
    return (np.asarray(f0_T)[:, None] > np.asarray(edges_E)[None]).sum(1).astype(np.int64)


def f0_centres(edges_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """A value for each bin: the middle of its edges, or its only edge, (E + 1,)."""
    edges_E = np.asarray(edges_E, dtype=np.float64)
    return np.concatenate([edges_E[:1], (edges_E[1:] + edges_E[:-1]) / 2, edges_E[-1:]])


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
        f0_T: from `normalized_f0`, or from `f0_bins` where F0 is discrete.
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
    """Streams (T,) to delayed streams (T + longest delay,), and which of their positions are padding (bool)."""

    def shift(stream_T: Tensor, delay: int, padding: float) -> tuple[Tensor, Tensor]:
        before, after = delay, config.longest_delay - delay
        shifted_T = torch.nn.functional.pad(stream_T, (before, after), value=padding)
        padding_T = torch.nn.functional.pad(
            torch.zeros_like(stream_T, dtype=torch.bool), (before, after), value=True
        )
        return shifted_T, padding_T

    parts = [
        shift(streams.tokens, 0, vocab.pad),
        shift(streams.durations, config.duration_delay, DURATION_PADDING),
        shift(streams.f0, config.f0_delay, config.f0_padding),
    ]
    return Streams(*(stream for stream, _ in parts)), Streams(*(padding for _, padding in parts))


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
