"""A frozen language model whose layers hold, and multiply, bfloat16 matrices: half the bytes to read for a new unit.

Queries, keys and values come from one matrix. Norms, the residual stream, embeddings and logits stay float32.

Shapes: D model dimension, P prompt positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechprompt.lm.attention import SelfAttention
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import DecoderLayer
from units.rounded_linear import RoundedLinear


def rounded(lm: GSLM, *, fingerprint: str | None = None) -> GSLM:
    """A frozen copy whose layers keep their matrices in bfloat16; all else is shared, the fingerprint too.

    lm: a GSLM or pGSLM; one that is rounded already is given back. fingerprint: its own, where it is known; computing
    it reads every weight.
    """
    if lm.product_dtype is not None:
        return lm
    copied = lm.shared_copy()
    for layer in copied.layers:
        assert isinstance(layer, DecoderLayer)
        layer.self_attn = RoundedAttention(layer.self_attn)
        layer.fc1, layer.fc2 = RoundedLinear([layer.fc1]), RoundedLinear([layer.fc2])
    copied.product_dtype, copied.rounded_from = torch.bfloat16, fingerprint or lm.fingerprint()
    copied.freeze()
    return copied


class RoundedAttention(SelfAttention):
    """The same attention by rounded matrices, of which one makes queries, keys and values.

    Args:
        attention: as it was trained; not changed.
    """

    def __init__(self, attention: SelfAttention) -> None:
        nn.Module.__init__(self)  # the projections of SelfAttention are not made
        self.n_heads = attention.n_heads
        self.qkv_proj = RoundedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out_proj = RoundedLinear([attention.out_proj])

    def project(self, x: Tensor, queried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See SelfAttention. Where only some positions ask, which the last layer knows, all queries are made anyhow."""
        query, key, value = self.qkv_proj(x).chunk(3, dim=-1)
        return query if queried is x else self.qkv_proj(queried).chunk(3, dim=-1)[0], key, value

    def key_value(self, key_PD: Tensor, value_PD: Tensor) -> tuple[Tensor, Tensor]:
        """See SelfAttention."""
        made = self.qkv_proj(torch.cat([key_PD, value_PD])[None])
        _, key, value = made.chunk(3, dim=-1)
        return self.split(key[:, : len(key_PD)]), self.split(value[:, len(key_PD) :])
