"""Rows of different lengths without their padding: what stands behind the last position read is never computed.

No position looks to its right, so what follows the last one that is read reaches nothing. Norms, projections and the
feed-forward part then run on the positions that are kept, one after another; attention alone sees rows.

Shapes: B rows, T positions, N kept positions of all rows, M = B * T places, R positions read, D model dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WORTH = 0.1  # less padding than this share costs less than packing and unpacking


class _Spread(torch.autograd.Function):
    """Kept positions to their places in rows; what is put at the other places is theirs to ignore."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, kept_M: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        return x_ND.index_select(0, kept_M)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        # No gradient reaches the other places: nobody looks at them. index_add, autograd's own way, is far slower.
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Pack(torch.autograd.Function):
    """The kept positions out of all places."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.n_places = len(x_MD)
        return x_MD.index_select(0, place_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        [gradient_ND] = gradients
        zeros_MD = gradient_ND.new_zeros(ctx.n_places, gradient_ND.shape[1])
        return zeros_MD.index_copy_(0, ctx.saved_tensors[0], gradient_ND), None


@dataclass(frozen=True, eq=False)
class Packing:
    """Which positions of a batch are kept.

    Attributes:
        shape: (B, T).
        place_N: in the flattened rows, int64.
        kept_M: which of the kept positions is put at each place, int64; 0 at places that are not kept.
        first_B: which of the kept positions is each row's first, int64.
    """

    shape: tuple[int, int]
    place_N: Tensor
    kept_M: Tensor
    first_B: Tensor

    @classmethod
    def up_to(cls, read_BR: Tensor, n_columns: int) -> Packing | None:
        """Keep each row up to the last position that is read; None where that leaves too little out to be worth it.

        On CPUs only: elsewhere the lengths would have to be waited for.

        Args:
            read_BR: positions read, int64.
            n_columns: T.
        """
        if read_BR.device.type != "cpu":
            return None
        length_B = read_BR.amax(1) + 1
        n_kept, n_places = int(length_B.sum()), len(read_BR) * n_columns
        if n_kept > (1 - WORTH) * n_places:
            return None
        kept_BT = torch.arange(n_columns) < length_B[:, None]
        place_N = kept_BT.flatten().nonzero()[:, 0]
        kept_M = torch.zeros(n_places, dtype=torch.int64).index_copy_(0, place_N, torch.arange(n_kept))
        return cls((len(read_BR), n_columns), place_N, kept_M, length_B.cumsum(0) - length_B)

    def pack(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (N, D)."""
        packed: Tensor = _Pack.apply(x_BTD.flatten(0, 1), self.place_N)
        return packed

    def spread(self, x_ND: Tensor) -> Tensor:
        """(N, D) to (B, T, D); at places that are not kept stands what no kept position may look at."""
        spread: Tensor = _Spread.apply(x_ND, self.kept_M, self.place_N)
        return spread.unflatten(0, self.shape)

    def rows_at(self, x_ND: Tensor, read_BR: Tensor) -> Tensor:
        """The positions `read_BR` of each row: (B, R, D)."""
        return x_ND[self.first_B[:, None] + read_BR]
