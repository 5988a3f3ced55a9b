"""Self-attention with a key/value prefix, a cache, and reading at chosen positions.

Shapes: B rows, T new positions, R positions read, S positions attended to (prefix or past, then new), P prefix,
D model dimension, H heads, E head dimension.

Source: fairseq's `MultiheadAttention`, parameter names included.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.cache import KVCache, Prefix
from speechprompt.lm.packing import Packing


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


# Up to so many keys, plain products beat the CPU's fused attention in bfloat16: with its backward pass 6 times as fast
# at 46 keys, twice at 420; without one 1.6 times at 56 (docs/performance.md).
SHORT_ROW = 512


def is_bf16_on_cpu(query_BHRE: Tensor) -> bool:
    """Whether attention runs on a CPU in bfloat16, for which its fused kernel is slow."""
    return query_BHRE.dtype == torch.bfloat16 and query_BHRE.device.type == "cpu"


def autocasts(kind: str) -> bool:
    """Whether autocast is on for a kind of device; there are kinds that know none ("meta")."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def attend_in_steps(
    query_BHRE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, allowed: Tensor | None
) -> Tensor:
    """The same as `attend` by two products and a softmax, scores rounded to the inputs' type."""
    n_queries, n_keys = query_BHRE.shape[2], key_BHSE.shape[2]
    if allowed is None:
        allowed = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query_BHRE.device).tril(
            n_keys - n_queries
        )
    hidden = torch.zeros_like(allowed, dtype=query_BHRE.dtype).masked_fill(~allowed, -torch.inf)
    score_BHRS = (query_BHRE * query_BHRE.shape[3] ** -0.5) @ key_BHSE.transpose(2, 3)
    return (score_BHRS + hidden).softmax(-1) @ value_BHSE


def attend(query_BHRE: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, allowed: Tensor | None) -> Tensor:
    """Scaled dot product attention. Without a mask the queries are the last R positions, in causal order.

    It is computed in the type of its inputs, whatever autocast would choose.

    A causal mask aligned to the end of the keys would cost the fused kernels. So queries of zeros are put before the
    real ones wherever that makes the matrix square, and their results are dropped: the plain causal kernel is exact.
    """
    n_queries, n_keys = query_BHRE.shape[2], key_BHSE.shape[2]
    kind = query_BHRE.device.type
    with torch.autocast(kind, enabled=False) if autocasts(kind) else nullcontext():
        if n_queries > 1 and n_keys <= SHORT_ROW and is_bf16_on_cpu(query_BHRE):
            return attend_in_steps(query_BHRE, key_BHSE, value_BHSE, allowed)
        n_before = n_keys - n_queries
        if allowed is None and n_before > 2 * n_queries > 2:
            shape = (n_queries, n_keys)
            allowed = torch.ones(shape, dtype=torch.bool, device=query_BHRE.device).tril(n_before)
        if allowed is not None or n_queries == 1:
            return F.scaled_dot_product_attention(query_BHRE, key_BHSE, value_BHSE, attn_mask=allowed)
        square_BHSE = F.pad(query_BHRE, (0, 0, n_before, 0)) if n_before else query_BHRE
        mixed_BHSE = F.scaled_dot_product_attention(square_BHSE, key_BHSE, value_BHSE, is_causal=True)
        return mixed_BHSE[:, :, n_before:]


def rows_at(x: Tensor, read_BR: Tensor, packing: Packing | None = None) -> Tensor:
    """Take the positions `read_BR` of each row of (B, T, D), or of packed (N, D): (B, R, D)."""
    if packing is not None:
        return packing.rows_at(x, read_BR)
    return x.gather(1, read_BR[:, :, None].expand(-1, -1, x.shape[2]))


def in_product_type(x: Tensor) -> Tensor:
    """What autocast would make of a linear layer's input: made once where several layers read it."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if autocasts(kind) else x


class SelfAttention(nn.Module):
    """Multi-head self-attention whose keys and values may begin with a prefix or a cached past."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, H, T, E)."""
        return x_BTD.unflatten(2, (self.n_heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, queried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of `queried` (..., D), which is x itself where all positions ask; keys and values of x (..., D)."""
        return self.q_proj(queried), self.k_proj(x), self.v_proj(x)

    def key_value(self, key_PD: Tensor, value_PD: Tensor) -> tuple[Tensor, Tensor]:
        """What a prompt's vectors are to this attention: keys and values (1, H, P, E), biases included."""
        return self.split(self.k_proj(key_PD[None])), self.split(self.v_proj(value_PD[None]))

    def forward(
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
        """Attend from every position of (B, T, D), or of packed (N, D), or from `read_BR` only: (B, R, D)."""
        x = in_product_type(x)
        query, key, value = self.project(x, x if read_BR is None else rows_at(x, read_BR, packing))
        if packing is not None:
            query = packing.spread(query) if read_BR is None else query
            key, value = packing.spread(key), packing.spread(value)
        query_BHRE, key_BHSE, value_BHSE = self.split(query), self.split(key), self.split(value)
        if cache is not None:
            key_BHSE, value_BHSE = cache.extend(layer, key_BHSE, value_BHSE)
            query_BHRE = query_BHRE.to(key_BHSE.dtype)
        elif prefix is not None:
            key_BHPE, value_BHPE = (
                side.to(key_BHSE.dtype).expand(len(key_BHSE), -1, -1, -1) for side in prefix
            )
            key_BHSE = torch.cat([key_BHPE, key_BHSE], dim=2)
            value_BHSE = torch.cat([value_BHPE, value_BHSE], dim=2)
        mixed = attend(query_BHRE, key_BHSE, value_BHSE, allowed).transpose(1, 2).flatten(2)
        if packing is not None and read_BR is None:
            mixed = packing.pack(mixed)
        return self.out_proj(mixed)


def projected(attentions: Sequence[SelfAttention], key_LPD: Tensor, value_LPD: Tensor) -> Prefix:
    """Keys and values of vectors, layer by layer, as the layers' own attentions would make them."""
    sides = [a.key_value(*vectors) for a, *vectors in zip(attentions, key_LPD, value_LPD, strict=True)]
    keys, values = zip(*sides, strict=True)
    return Prefix(torch.stack(keys), torch.stack(values))
