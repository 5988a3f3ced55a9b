"""A frozen language model whose layers hold, and multiply, bfloat16 matrices: half the bytes to read for a new unit.

Queries, keys and values come from one matrix. Norms, the residual stream, embeddings and logits stay float32.

Shapes: D model dimension, P prompt positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.attention import SelfAttention
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import DecoderLayer


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
        layer.fc1, layer.fc2 = rounded_linear([layer.fc1]), rounded_linear([layer.fc2])
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
        self.qkv_proj = rounded_linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out_proj = rounded_linear([attention.out_proj])

    def project(self, x: Tensor, queried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See SelfAttention."""
        if queried is x:
            query, key, value = self.qkv_proj(x).chunk(3, dim=-1)
            return query, key, value
        key, value = self._third(x, 1, 3).chunk(2, dim=-1)
        return self._third(queried, 0, 1), key, value

    def key_value(self, key_PD: Tensor, value_PD: Tensor) -> tuple[Tensor, Tensor]:
        """See SelfAttention."""
        return self.split(self._third(key_PD[None], 1, 2)), self.split(self._third(value_PD[None], 2, 3))

    def _third(self, x: Tensor, start: int, end: int) -> Tensor:
        """Project by the thirds from `start` to before `end`: 0 makes queries, 1 keys, 2 values."""
        third = self.qkv_proj.out_features // 3
        chosen = slice(start * third, end * third)
        return F.linear(x, self.qkv_proj.weight[chosen], self.qkv_proj.bias[chosen])


def rounded_linear(parts: Sequence[nn.Linear]) -> nn.Linear:
    """One frozen layer that computes what the given ones compute of the same input, one after another, in bfloat16."""
    with torch.device("meta"):
        linear = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts))
    linear.weight = _frozen([part.weight for part in parts])
    linear.bias = _frozen([part.bias for part in parts])
    return linear


def _frozen(tensors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([t.detach().to(torch.bfloat16) for t in tensors]), requires_grad=False)
