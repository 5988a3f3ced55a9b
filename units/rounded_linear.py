"""A frozen linear layer in bfloat16 whose matrix lies as the processor's products read it.

oneDNN multiplies by blocks. A matrix that is kept as rows is brought into blocks in every call, which takes longer than
the product where few rows are multiplied; what never changes is laid out once.

Shapes: N rows (any leading dimensions), I features read, O features made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RoundedLinear(nn.Linear):
    """Computes what the given layers compute of the same input, one after another, in bfloat16.

    Args:
        parts: layers, with a bias or all without, as they were trained; not changed.

    Attributes:
        weight: (O, I) bfloat16, frozen; on a CPU whose oneDNN multiplies bfloat16 in its layout, elsewhere in rows.
        bias: (O,) bfloat16, frozen, or None.
    """

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        nn.Module.__init__(self)  # no float32 matrix is made first
        weight_OI = _rounded([part.weight for part in parts])
        self.weight = nn.Parameter(laid_out(weight_OI), requires_grad=False)
        biases = [part.bias for part in parts if part.bias is not None]
        self.bias = nn.Parameter(_rounded(biases), requires_grad=False) if biases else None  # type: ignore[assignment]
        self.out_features, self.in_features = weight_OI.shape
        self._turned: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, I), rounded where it is not bfloat16, to (N, O) bfloat16."""
        x = x.to(torch.bfloat16)
        if not self.weight.is_mkldnn:
            return F.linear(x, self.weight, self.bias)
        rows_NI = x if x.ndim == 2 else x.flatten(end_dim=-2)
        needs_grad = torch.is_grad_enabled() and x.requires_grad
        made_NO = _Product.apply(rows_NI, self) if needs_grad else product(rows_NI, self.weight, self.bias)
        return made_NO if x.ndim == 2 else made_NO.view(*x.shape[:-1], self.out_features)

    def turned(self) -> Tensor:
        """The matrix (I, O) that gradients are multiplied by, laid out when the first one asks."""
        if self._turned is None:
            self._turned = laid_out(self.weight.detach().to_dense().t().contiguous())
        return self._turned


class _Product(torch.autograd.Function):
    """A product whose gradient reaches its input; the matrix is frozen, so that nothing is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: RoundedLinear) -> Tensor:
        ctx.linear = linear
        return product(x, linear.weight, linear.bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return product(grads[0], ctx.linear.turned(), None), None


def laid_out(weight_OI: Tensor) -> Tensor:
    """A bfloat16 matrix in oneDNN's layout, for any number of rows; as it is where oneDNN has none for it."""
    if weight_OI.device.type != "cpu" or not _multiplies_bf16():
        return weight_OI
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), None)
    return packed


def product(x: Tensor, packed_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """`F.linear` by a matrix in oneDNN's layout: (N, I) bfloat16 to (N, O)."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed_OI, bias_O, "none", [], "")
    return made


def _multiplies_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _rounded(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().to(torch.bfloat16) for tensor in tensors])
