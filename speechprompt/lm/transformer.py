"""Transformer decoder layers; pre-norm as published.

Shapes: B rows, T new positions, R positions read, D model dimension.

Source: the decoder layer of fairseq's `transformer_lm`, with and without `decoder_normalize_before`, parameter names
included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.attention import SelfAttention, rows_at
from speechprompt.lm.cache import KVCache
from speechprompt.lm.packing import Packing
from units.errors import InputError

# By fairseq's names; "gelu_fast" is its older name of "gelu_accurate". relu writes over what it is given, which
# nothing else reads: to find memory for a feed-forward part's inner values takes as long as the function itself.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": partial(F.relu, inplace=True),
    "gelu": F.gelu,
    "gelu_accurate": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "relu_squared": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
    "linear": lambda x: x,
}
# A wrong configuration must not fill memory or time before it is noticed.
MAX_DIMENSION, MAX_LAYERS = 1 << 20, 1_000
POSITIONS = ("sinusoidal", "learned", "none")


@dataclass(frozen=True)
class TransformerConfig:
    """Dimensions of a decoder.

    Attributes:
        n_layers: decoder layers.
        d_model: width of the residual stream.
        n_heads: attention heads; divides d_model.
        d_ffn: inner width of the feed-forward part.
        dropout: on embeddings and on what each half layer adds to the residual stream, in training.
        activation: a name in ACTIVATIONS; "relu" in GSLM, "gelu" in unit mBART.
        max_positions: most tokens in a row, special tokens included.
        positions: "sinusoidal" (GSLM), "learned", or "none".
        tied: whether the output projection is the embedding table (GSLM) or has weights of its own.
        scale_embedding: whether embeddings are multiplied by sqrt(d_model).
        normalize_before: whether each half layer is normalised before, else after what it adds to the residual stream.
        final_norm: whether there is a norm after the last layer; where layers are normalised after, there is none.
    Raises: InputError for dimensions that do not fit together.
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_ffn: int
    dropout: float = 0.1
    activation: str = "relu"
    max_positions: int = 3072
    positions: str = "sinusoidal"
    tied: bool = True
    scale_embedding: bool = True
    normalize_before: bool = True
    final_norm: bool = True

    def __post_init__(self) -> None:
        dimensions = (self.n_layers, self.d_model, self.n_heads, self.d_ffn, self.max_positions)
        if not all(isinstance(size, int) and 1 <= size <= MAX_DIMENSION for size in dimensions):
            raise InputError(
                f"transformer: expected dimensions from 1 to {MAX_DIMENSION}, got {asdict(self)}; "
                "mend the configuration"
            )
        if self.n_layers > MAX_LAYERS or not 0 <= self.dropout < 1:
            raise InputError(
                f"transformer: expected at most {MAX_LAYERS} layers and a dropout in [0, 1), got {self.n_layers} and "
                f"{self.dropout}; mend the configuration"
            )
        if self.d_model % self.n_heads:
            raise InputError(
                f"transformer: expected n_heads to divide d_model, got {self.n_heads} and {self.d_model}"
            )
        if self.positions not in POSITIONS:
            raise InputError(
                f"transformer: expected positions {' or '.join(POSITIONS)}, got {self.positions!r}"
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"transformer: expected activation {' or '.join(ACTIVATIONS)}, got {self.activation!r}"
            )

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for config.json; TransformerConfig(**d) reads it back."""
        return asdict(self)

    def last_norm(self) -> nn.Module:
        """A new norm after the last layer, or what does nothing."""
        return nn.LayerNorm(self.d_model) if self.final_norm else nn.Identity()


def sinusoidal_positions(n_rows: int, d_model: int, padding_row: int) -> Tensor:
    """Table (n_rows, d_model) float32, on the CPU: sines, then cosines, zeros at `padding_row`.

    Wavelengths form a geometric series from 2 pi to 20000 pi over d_model // 2 - 1 steps; an odd width ends in a zero.

    Source: tensor2tensor's form of Vaswani et al. 2017, section 3.5, which fairseq uses.
    """
    half = d_model // 2
    step_H = torch.arange(half, dtype=torch.float32, device="cpu")
    row_N = torch.arange(n_rows, dtype=torch.float32, device="cpu")
    angle = row_N[:, None] * torch.exp(step_H * -(math.log(10_000) / max(half - 1, 1)))
    table = F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, d_model % 2))
    table[padding_row] = 0
    return table


class DecoderLayer(nn.Module):
    """Attention, then feed-forward, each normalised (before, or after all) and added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.normalize_before = config.normalize_before
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.self_attn = SelfAttention(config.d_model, config.n_heads)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.d_ffn)
        self.fc2 = nn.Linear(config.d_ffn, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.activation]

    def forward(
        self,
        x: Tensor,
        *,
        layer: int,
        prefix: tuple[Tensor, Tensor] | None = None,
        cache: KVCache | None = None,
        read_BR: Tensor | None = None,
        allowed: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Run one layer: (B, T, D), or packed (N, D), to the same, or to (B, R, D) where only `read_BR` is wanted."""
        return self.transform(
            self.attend_to_self(
                x, layer=layer, prefix=prefix, cache=cache, read_BR=read_BR, allowed=allowed, packing=packing
            )
        )

    def attend_to_self(
        self,
        x: Tensor,
        *,
        layer: int,
        prefix: tuple[Tensor, Tensor] | None,
        cache: KVCache | None,
        read_BR: Tensor | None,
        allowed: Tensor | None,
        packing: Packing | None = None,
    ) -> Tensor:
        """The first half: self-attention, added to the residual stream."""
        mixed = self.self_attn(
            self.attention_input(x),
            layer=layer,
            prefix=prefix,
            cache=cache,
            read_BR=read_BR,
            allowed=allowed,
            packing=packing,
        )
        stream = x if read_BR is None else rows_at(x, read_BR, packing)
        return self.added(stream, mixed, self.self_attn_layer_norm)

    def transform(self, x: Tensor) -> Tensor:
        """The second half: the feed-forward part, added to the residual stream."""
        inner = self.activation(self.fc1(self.normalized(x, self.final_layer_norm)))
        return self.added(x, self.fc2(inner), self.final_layer_norm)

    def attention_input(self, x: Tensor) -> Tensor:
        """What the projections to queries, keys and values read of the layer's input."""
        return self.normalized(x, self.self_attn_layer_norm)

    def normalized(self, x: Tensor, norm: nn.Module) -> Tensor:
        """What a part of the layer reads of the residual stream."""
        return norm(x) if self.normalize_before else x

    def added(self, x: Tensor, part: Tensor, norm: nn.Module) -> Tensor:
        """The residual stream with what a part of the layer made of it."""
        x = x + self.dropout(part)
        return x if self.normalize_before else norm(x)
