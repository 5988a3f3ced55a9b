"""Keys and values that attention finds already computed: the prompt's prefix, and the past of decoding.

Shapes: L layers, B rows, H heads, P prefix positions, S cached positions, T new positions, E head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values that every query may attend to, placed before the first token of each layer.

    Attributes:
        key_LBHPE: keys; B is 1 for a prefix shared by all rows, else every row has its own (`lm.row_prefixes`).
        value_LBHPE: values, same shape.
        visible_BTS: for infix prompts, which of S = P + T columns (prefix, then new positions) each of T new positions
            may attend to, bool; None for plain causal order behind a prefix that all may attend to.
        padding_BP: where rows have prefixes of different lengths, True at positions that are none of the row's.
    """

    key_LBHPE: Tensor
    value_LBHPE: Tensor
    visible_BTS: Tensor | None = None
    padding_BP: Tensor | None = None

    @property
    def length(self) -> int:
        """Prefix positions."""
        return self.key_LBHPE.shape[3]

    def padding(self, padding_BT: Tensor | None, n_new: int) -> Tensor | None:
        """Padding over the prefix and `n_new` positions after it, (B, P + T) bool; None where there is none.

        padding_BT: of the new positions, True at padding.
        """
        if self.padding_BP is None:
            return None if padding_BT is None else F.pad(padding_BT, (self.length, 0))
        if padding_BT is None:
            return F.pad(self.padding_BP, (0, n_new))
        return torch.cat([self.padding_BP.expand(len(padding_BT), -1), padding_BT], dim=1)


class KVCache:
    """Keys and values of all past positions, in memory taken once: only a beam search copies it.

    A prefix is written to the first columns when the cache is made; `length` counts it.
    """

    def __init__(
        self,
        n_layers: int,
        n_rows: int,
        n_heads: int,
        d_head: int,
        max_length: int,
        *,
        prefix: Prefix | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if prefix is not None and prefix.visible_BTS is not None:
            raise ValueError("a cache cannot begin with a prefix that only some positions may attend to")
        self.n_prefix = self.length = prefix.length if prefix is not None else 0
        shape = (n_layers, n_rows, n_heads, self.length + max_length, d_head)
        self.key_LBHSE = torch.zeros(shape, device=device, dtype=dtype)
        self.value_LBHSE = torch.zeros(shape, device=device, dtype=dtype)
        self.padding_BS = torch.zeros(n_rows, shape[3], device=device, dtype=torch.bool)
        self.has_padding = False
        if prefix is not None:
            self.key_LBHSE[:, :, :, : self.length] = prefix.key_LBHPE
            self.value_LBHSE[:, :, :, : self.length] = prefix.value_LBHPE
            if prefix.padding_BP is not None:
                self.padding_BS[:, : self.length] = prefix.padding_BP
                self.has_padding = True

    def require_room(self, n_new: int, prefix: Prefix | None) -> None:
        """ValueError where `n_new` more positions do not fit, or a prefix is given beside the cache."""
        if prefix is not None:
            raise ValueError("a prefix belongs to the cache: give it to new_cache, not to forward")
        if self.length + n_new > self.capacity:
            raise ValueError(f"cache of {self.capacity} positions is too short for {self.length} + {n_new}")

    @property
    def capacity(self) -> int:
        """Most positions it can hold, prefix included."""
        return self.key_LBHSE.shape[3]

    def extend(self, layer: int, key_BHTE: Tensor, value_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values behind the past; return past and new, (B, H, length + T, E)."""
        end = self.length + key_BHTE.shape[2]
        self.key_LBHSE[layer, :, :, self.length : end] = key_BHTE
        self.value_LBHSE[layer, :, :, self.length : end] = value_BHTE
        return self.key_LBHSE[layer, :, :, :end], self.value_LBHSE[layer, :, :, :end]

    def reorder(self, rows_N: Tensor) -> None:
        """Let row i be what row `rows_N[i]` was, as a beam search needs; the number of rows may change."""
        n_rows = len(self.padding_BS)
        if len(rows_N) == n_rows and torch.equal(rows_N, torch.arange(n_rows, device=rows_N.device)):
            return  # as between most steps: nothing moves
        if len(rows_N) == n_rows:
            for past_LBHSE in (self.key_LBHSE, self.value_LBHSE):  # copy no more than what is filled
                past_LBHSE[:, :, :, : self.length] = past_LBHSE[:, rows_N, :, : self.length]
        else:
            self.key_LBHSE, self.value_LBHSE = self.key_LBHSE[:, rows_N], self.value_LBHSE[:, rows_N]
        self.padding_BS = self.padding_BS[rows_N]

    def mark_padding(self, padding_BT: Tensor) -> None:
        """Remember which of the T positions about to be written are padding (True)."""
        self.padding_BS[:, self.length : self.length + padding_BT.shape[1]] = padding_BT
        self.has_padding = True

    def advance(self, n_positions: int) -> None:
        """Count `n_positions` as past, once all layers have written them."""
        self.length += n_positions
