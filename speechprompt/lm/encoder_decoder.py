"""Parts of an encoder-decoder built of the unit LM's layers: the two sides, and attention from one to the other.

Shapes: B rows, S source tokens, T target tokens, R queries, L layers, P prefix positions, D model dimension, H heads,
E head dimension.

Source: fairseq's transformer, with learned positions and `layernorm_embedding` as in mBART, parameter names included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.attention import SelfAttention, attend, projected
from speechprompt.lm.cache import Prefix
from speechprompt.lm.transformer import DecoderLayer, TransformerConfig, sinusoidal_positions
from units.errors import InputError


@dataclass(frozen=True, eq=False)
class Memory:
    """What the decoder looks at: each layer's keys and values of the encoder's output.

    hidden_BSD: the encoder's output, past its last norm. key_LBHSE, value_LBHSE: of the decoder's cross-attentions.
    allowed: (B, 1, 1, S) bool, False at padding.
    """

    hidden_BSD: Tensor
    key_LBHSE: Tensor
    value_LBHSE: Tensor
    allowed: Tensor

    def rows(self, index_B: Tensor) -> Memory:
        """Take some rows."""
        return Memory(
            self.hidden_BSD[index_B],
            self.key_LBHSE[:, index_B],
            self.value_LBHSE[:, index_B],
            self.allowed[index_B],
        )

    def behind(self, prefix: Prefix) -> Memory:
        """The same with keys and values of a prefix before them, which every target position may look at."""
        n_rows = len(self.hidden_BSD)
        key_LBHPE, value_LBHPE = (
            side.to(self.key_LBHSE.dtype).expand(-1, n_rows, -1, -1, -1)
            for side in (prefix.key_LBHPE, prefix.value_LBHPE)
        )
        return Memory(
            self.hidden_BSD,
            torch.cat([key_LBHPE, self.key_LBHSE], dim=3),
            torch.cat([value_LBHPE, self.value_LBHSE], dim=3),
            F.pad(self.allowed, (prefix.length, 0), value=True),
        )


class CrossAttention(SelfAttention):
    """Attention to the encoder's output, whose keys and values are computed once."""

    def look(self, x_BTD: Tensor, key_BHSE: Tensor, value_BHSE: Tensor, allowed: Tensor) -> Tensor:
        """Attend from every position: (B, T, D). Several rows of x_BTD may share one row of the memory."""
        # Nothing here depends on the order of queries, so the hypotheses of a row are read as its positions.
        query_BHRE = self.split(self.q_proj(x_BTD.reshape(len(key_BHSE), -1, x_BTD.shape[2])))
        key_BHSE, value_BHSE = key_BHSE.to(query_BHRE.dtype), value_BHSE.to(query_BHRE.dtype)
        mixed_BHRE = attend(query_BHRE, key_BHSE, value_BHSE, allowed)
        mixed_BRD: Tensor = self.out_proj(mixed_BHRE.transpose(1, 2).flatten(2))
        return mixed_BRD.reshape(x_BTD.shape)


class CrossLayer(DecoderLayer):
    """Self-attention, then attention to the encoder's output, then feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.encoder_attn = CrossAttention(config.d_model, config.n_heads)

    def attend_to_memory(self, x_BTD: Tensor, layer: int, memory: Memory) -> Tensor:
        """The middle of the layer, added to the residual stream."""
        mixed_BTD = self.encoder_attn.look(
            self.normalized(x_BTD, self.encoder_attn_layer_norm),
            memory.key_LBHSE[layer],
            memory.value_LBHSE[layer],
            memory.allowed,
        )
        return self.added(x_BTD, mixed_BTD, self.encoder_attn_layer_norm)


class Side(nn.Module):
    """What encoder and decoder have in common: embeddings, layers, and the norms around them."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_type: type[DecoderLayer],
        embed_tokens: nn.Embedding,
        *,
        norm: bool,
    ) -> None:
        super().__init__()
        self.config = config
        self.pad = int(embed_tokens.padding_idx or 0)
        self.embed_tokens = embed_tokens
        self.n_positions = config.max_positions + self.pad + 1
        self.embed_positions = (
            nn.Embedding(self.n_positions, config.d_model) if config.positions == "learned" else None
        )
        self._fixed_ND: Tensor | None = None
        self.layernorm_embedding = nn.LayerNorm(config.d_model) if norm else nn.Identity()
        self.layers = nn.ModuleList(layer_type(config) for _ in range(config.n_layers))
        self.layer_norm = config.last_norm()
        self.dropout = nn.Dropout(config.dropout)
        self.scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0

    def embed(self, ids_BT: Tensor, n_before: int = 0) -> Tensor:
        """Token ids to the first layer's input (B, T, D); `n_before` tokens of each row were read earlier.

        Raises: InputError for a row longer than max_positions.
        """
        if ids_BT.shape[1] + n_before > self.config.max_positions:
            raise InputError(
                f"row of {ids_BT.shape[1] + n_before} tokens: expected at most {self.config.max_positions}, the "
                "model's longest; use shorter audio"
            )
        real_BT = ids_BT.ne(self.pad)
        position_BT = (real_BT.cumsum(1) + n_before) * real_BT + self.pad
        x_BTD = self.scale * self.embed_tokens(ids_BT) + self._position_table()[position_BT]
        embedded_BTD: Tensor = self.dropout(self.layernorm_embedding(x_BTD))
        return embedded_BTD

    def _position_table(self) -> Tensor:
        """What is added to the embeddings, row by position: learned, or computed when first used."""
        if self.embed_positions is not None:
            return self.embed_positions.weight
        weight = self.embed_tokens.weight
        if self._fixed_ND is None or self._fixed_ND.device != weight.device:
            table_ND = sinusoidal_positions(self.n_positions, self.config.d_model, self.pad)
            if self.config.positions == "none":
                table_ND.zero_()
            self._fixed_ND = table_ND.to(weight.device)
        return self._fixed_ND

    def blocks(self) -> list[DecoderLayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def prefix(self, key_LPD: Tensor, value_LPD: Tensor) -> Prefix:
        """Project a deep prompt's vectors by each self-attention's k_proj and v_proj, biases included."""
        return projected([layer.self_attn for layer in self.blocks()], key_LPD, value_LPD)


def before(rows_PD: Tensor, x_BTD: Tensor) -> Tensor:
    """Put the same rows before every row of embedded tokens: (B, P + T, D)."""
    return torch.cat([rows_PD.to(x_BTD.dtype).expand(len(x_BTD), -1, -1), x_BTD], dim=1)


def side_of(prefix: Prefix | None, layer: int) -> tuple[Tensor, Tensor] | None:
    """One layer's keys and values of a prefix, as a layer takes them; None where there is no prefix."""
    return None if prefix is None else (prefix.key_LBHPE[layer], prefix.value_LBHPE[layer])
