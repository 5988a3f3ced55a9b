"""Transformer decoder layers with a key/value prefix, a cache, and reading at chosen positions; pre-norm as published.

Shapes: B rows, T new positions, R positions read, S positions attended to (prefix or past, then new), P prefix,
D model dimension, H heads, E head dimension.

Source: the decoder layer of fairseq's `transformer_lm`, with and without `decoder_normalize_before`, parameter names
included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.cache import KVCache
from units.errors import InputError

# By fairseq's names; "gelu_fast" is its older name of "gelu_accurate".
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_accurate": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "relu_squared": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
    "linear": lambda x: x,
}
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
        if min(self.n_layers, self.d_model, self.n_heads, self.d_ffn, self.max_positions) < 1:
            raise InputError(
                f"transformer: expected positive dimensions, got {asdict(self)}; mend the configuration"
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


def visible(
    n_past: int, n_new: int, *, read_BR: Tensor | None = None, padding_BS: Tensor | None = None
) -> Tensor | None:
    """Which of S = n_past + n_new positions each query may attend to; None where plain causal order says it all.

    Args:
        n_past: prefix or cached positions, before all new ones.
        n_new: new positions.
        read_BR: positions among the new ones that the queries stand at, int64; None for every new position.
        padding_BS: True at padding. A query at a padded position still sees itself, so that no row is empty.
    Returns: bool (B or 1, 1, R or T, S), True where attention is allowed.
    """
    if read_BR is None and padding_BS is None:
        return None
    if read_BR is not None:
        column_BR = n_past + read_BR
    else:
        assert padding_BS is not None
        column_BR = torch.arange(n_past, n_past + n_new, device=padding_BS.device)[None]
    columns_S = torch.arange(n_past + n_new, device=column_BR.device)
    allowed_BRS = columns_S <= column_BR[:, :, None]
    if padding_BS is not None:
        allowed_BRS = allowed_BRS & (~padding_BS[:, None] | (columns_S == column_BR[:, :, None]))
    return allowed_BRS[:, None]


def attend(query_BHRE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, allowed: Tensor | None) -> Tensor:
    """Scaled dot product attention. Without a mask the queries are the last R positions, in causal order.

    A causal mask aligned to the end of the keys would cost the fused kernels. So queries of zeros are put before the
    real ones wherever that makes the matrix square, and their results are dropped: the plain causal kernel is exact.
    """
    n_queries, n_keys = query_BHRE.shape[2], key_BHSE.shape[2]
    if allowed is not None or n_queries == 1:
        return F.scaled_dot_product_attention(query_BHRE, key_BHSE, value_BHSE, attn_mask=allowed)
    n_before = n_keys - n_queries
    if n_before > 2 * n_queries:
        allowed_RS = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query_BHRE.device).tril(n_before)
        return F.scaled_dot_product_attention(query_BHRE, key_BHSE, value_BHSE, attn_mask=allowed_RS)
    square_BHSE = F.pad(query_BHRE, (0, 0, n_before, 0)) if n_before else query_BHRE
    return F.scaled_dot_product_attention(square_BHSE, key_BHSE, value_BHSE, is_causal=True)[:, :, n_before:]


def rows_at(x_BTD: Tensor, read_BR: Tensor) -> Tensor:
    """Take the positions `read_BR` of each row: (B, R, D)."""
    return x_BTD.gather(1, read_BR[:, :, None].expand(-1, -1, x_BTD.shape[2]))


class SelfAttention(nn.Module):
    """Multi-head self-attention whose keys and values may begin with a prefix or a cached past."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.k_proj = nn.Linear(config.d_model, config.d_model)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, H, T, E)."""
        return x_BTD.unflatten(2, (self.n_heads, -1)).transpose(1, 2)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        layer: int,
        prefix: tuple[Tensor, Tensor] | None,
        cache: KVCache | None,
        read_BR: Tensor | None,
        allowed: Tensor | None,
    ) -> Tensor:
        """Attend from every position, or from `read_BR` only. Returns (B, T, D) or (B, R, D)."""
        query_BHRE = self.split(self.q_proj(x_BTD if read_BR is None else rows_at(x_BTD, read_BR)))
        key_BHSE, value_BHSE = self.split(self.k_proj(x_BTD)), self.split(self.v_proj(x_BTD))
        if cache is not None:
            key_BHSE, value_BHSE = cache.extend(layer, key_BHSE, value_BHSE)
            key_BHSE, value_BHSE = key_BHSE.to(query_BHRE.dtype), value_BHSE.to(query_BHRE.dtype)
        elif prefix is not None:
            key_BHPE, value_BHPE = (side.to(key_BHSE.dtype).expand(len(x_BTD), -1, -1, -1) for side in prefix)
            key_BHSE = torch.cat([key_BHPE, key_BHSE], dim=2)
            value_BHSE = torch.cat([value_BHPE, value_BHSE], dim=2)
        mixed_BHRE = attend(query_BHRE, key_BHSE, value_BHSE, allowed)
        return self.out_proj(mixed_BHRE.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Attention, then feed-forward, each normalised (before, or after all) and added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.normalize_before = config.normalize_before
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.self_attn = SelfAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.d_ffn)
        self.fc2 = nn.Linear(config.d_ffn, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.activation]

    def forward(
        self,
        x_BTD: Tensor,
        *,
        layer: int,
        prefix: tuple[Tensor, Tensor] | None = None,
        cache: KVCache | None = None,
        read_BR: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Run one layer: (B, T, D) to (B, T, D), or to (B, R, D) where only `read_BR` is wanted."""
        return self.transform(
            self.attend_to_self(
                x_BTD, layer=layer, prefix=prefix, cache=cache, read_BR=read_BR, allowed=allowed
            )
        )

    def attend_to_self(
        self,
        x_BTD: Tensor,
        *,
        layer: int,
        prefix: tuple[Tensor, Tensor] | None,
        cache: KVCache | None,
        read_BR: Tensor | None,
        allowed: Tensor | None,
    ) -> Tensor:
        """The first half: self-attention, added to the residual stream."""
        mixed = self.self_attn(
            self.attention_input(x_BTD),
            layer=layer,
            prefix=prefix,
            cache=cache,
            read_BR=read_BR,
            allowed=allowed,
        )
        stream = x_BTD if read_BR is None else rows_at(x_BTD, read_BR)
        return self.added(stream, mixed, self.self_attn_layer_norm)

    def transform(self, x: Tensor) -> Tensor:
        """The second half: the feed-forward part, added to the residual stream."""
        inner = self.activation(self.fc1(self.normalized(x, self.final_layer_norm)))
        return self.added(x, self.fc2(inner), self.final_layer_norm)

    def attention_input(self, x_BTD: Tensor) -> Tensor:
        """What the projections to queries, keys and values read of the layer's input."""
        return self.normalized(x_BTD, self.self_attn_layer_norm)

    def normalized(self, x: Tensor, norm: nn.Module) -> Tensor:
        """What a part of the layer reads of the residual stream."""
        return norm(x) if self.normalize_before else x

    def added(self, x: Tensor, part: Tensor, norm: nn.Module) -> Tensor:
        """The residual stream with what a part of the layer made of it."""
        x = x + self.dropout(part)
        return x if self.normalize_before else norm(x)
