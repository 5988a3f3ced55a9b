"""What a unit language model offers to prompts, decoding and run folders, whatever its family.

Shapes: B rows, T tokens, R positions read, L layers, P prefix positions, D model dimension, V vocabulary.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from speechprompt.lm.cache import KVCache, Prefix
from speechprompt.lm.folder import fingerprint
from speechprompt.vocab import UnitVocab
from units.errors import InputError

LM = TypeVar("LM", bound="UnitLM")


class UnitLM(nn.Module, ABC):
    """A decoder over unit tokens whose every layer can be steered by a key/value prefix.

    Attributes:
        family: name in the model folder's config.json.
        takes_infix: whether `forward` heeds a prefix's `visible_BTS`, which deep infix prompts need.
        vocab: the token inventory.
        n_layers, n_heads, d_model, d_head: dimensions that a prompt's shape follows from.
        embed_scale: what `embed` multiplies token embeddings with; the model may scale them once more inside.
        max_positions: most tokens in a row, special tokens included.
        product_dtype: bfloat16 where the layers' matrices are kept in it (`lm.rounded`); None: as the weights are.
        rounded_from: fingerprint of the model that a rounded one was made of.
    """

    family: ClassVar[str]
    takes_infix: ClassVar[bool] = False
    vocab: UnitVocab
    n_layers: int
    n_heads: int
    d_model: int
    embed_scale: float
    max_positions: int
    product_dtype: torch.dtype | None = None
    rounded_from: str | None = None

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def d_output(self) -> int:
        """Width of the final hidden state, which `logits` reads."""
        return self.d_model

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abstractmethod
    def token_embedding(self, ids: Tensor) -> Tensor:
        """Embeddings (..., D) of token ids (...), neither scaled nor given positions."""

    @abstractmethod
    def embed(
        self, ids_BT: Tensor, *, separator: Tensor | None = None, n_before_B: Tensor | None = None
    ) -> Tensor:
        """Token ids to the decoder's input (B, T, D): scaled embeddings plus positions.

        Args:
            ids_BT: int64; padding keeps the padding position.
            separator: replaces the embedding of every `<s>`, before scaling: (D,), or (B, T, D) with one for each.
            n_before_B: tokens of each row that are in a cache already, int64; None for none.
        Raises: InputError for a row longer than max_positions.
        """

    @property
    def reads_prosody(self) -> bool:
        """Whether rows of recordings hold durations and F0 beside units, see `speechprompt.read_rows`."""
        return False

    def embed_rows(
        self, ids_BT: Tensor, prosody_BT2: Tensor | None = None, *, separator: Tensor | None = None
    ) -> Tensor:
        """Whole rows, padded on the right, to the decoder's input (B, T, D): as `embed`, with their prosody.

        Args:
            ids_BT: int64.
            prosody_BT2: duration and F0 of each token, see `batch.Batch`; None for none. Where it is shorter than
                `ids_BT`, which further `<s>` have made longer, the rest is 0.
            separator: as of `embed`.
        Raises: InputError as `embed`, or for prosody that the family does not read.
        """
        if prosody_BT2 is not None:
            raise InputError(
                f"rows: expected units alone, which {self.family} reads, got durations and F0, too; leave them out"
            )
        return self.embed(ids_BT, separator=separator)

    @abstractmethod
    def prefix(self, key_LPD: Tensor, value_LPD: Tensor) -> Prefix:
        """Project a deep prompt's vectors through each layer's frozen key and value projections.

        Equals overwriting the inputs of those projections at P positions before the first token.
        """

    @abstractmethod
    def key_value_inputs(self, x_BTD: Tensor) -> Tensor:
        """What reaches the key and value projections of each layer: (L, B, T, D)."""

    @abstractmethod
    def forward(
        self,
        x_BTD: Tensor,
        *,
        prefix: Prefix | None = None,
        cache: KVCache | None = None,
        read_positions: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Run all layers and the last norm.

        Args:
            x_BTD: from `embed`, prompt rows put before it where there are any.
            prefix: keys and values before the first token; goes into the cache where there is one (`new_cache`).
            cache: the past; the new positions are appended to it.
            read_positions: (B, R) int64, columns of x_BTD; the last layer computes only these. None for all.
            key_padding_mask: (B, T) bool, True at padding. Rows padded on the right do not need it, because
                no real token looks to its right.
        Returns: hidden states (B, T, D) or (B, R, D).
        """

    @abstractmethod
    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Hidden states (..., D) to logits (..., V), or (..., n) for n chosen token ids only."""

    @abstractmethod
    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write config.json and model.safetensors (float16 if `half`, else float32), each atomically."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> UnitLM:
        """Read what `save` wrote, to float32 and evaluation mode. Raises: InputError for a folder that is not one."""

    def new_cache(self, n_rows: int, max_length: int, *, prefix: Prefix | None = None) -> KVCache:
        """A cache for `n_rows` rows of at most `max_length` tokens (prompt rows included), behind `prefix`.

        On a CPU it is float32 for a rounded model, too: one query looks at keys in bfloat16 six times as slowly there.
        """
        dtype = next(self.parameters()).dtype
        if self.product_dtype is not None and self.device.type != "cpu":
            dtype = self.product_dtype
        return KVCache(
            self.n_layers,
            n_rows,
            self.n_heads,
            self.d_head,
            max_length,
            prefix=prefix,
            device=self.device,
            dtype=dtype,
        )

    def freeze(self) -> UnitLM:
        """Evaluation mode, no gradients for any weight; returns self."""
        self.eval()
        self.requires_grad_(False)
        return self

    def fingerprint(self) -> str:
        """Sha256 over names, shapes and float32 values of all tensors, in order of name: which model this is.

        Of a rounded model that of the one it was made of: prompts for one fit the other.
        """
        return self.rounded_from or fingerprint(self)

    def saved_weights(self) -> dict[str, Tensor]:
        """What `save` writes. Raises: InputError for a rounded model, whose matrices would come back as others."""
        if self.product_dtype is not None:
            raise InputError(
                "language model: expected one in float32 to save, got a rounded one; save the other"
            )
        return self.state_dict()

    def shared_copy(self: LM) -> LM:
        """The same tensors in new modules: what is put between those stays out of this model."""
        tensors = [*self.parameters(), *self.buffers()]
        return copy.deepcopy(self, {id(tensor): tensor for tensor in tensors})

    def n_parameters(self) -> int:
        """Number of weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.parameters())
