"""The GSLM unit language model: a pre-norm decoder; as published with sinusoidal positions and tied embeddings.

Shapes: B rows, T tokens, R positions read, L layers, P prefix positions, D model dimension, V vocabulary.

Source: fairseq's `transformer_lm` (arch `transformer_lm_big`) as used by Lakhotia et al. 2021, "On Generative
Spoken Language Modeling from Raw Audio"; parameter names are those of its checkpoints without `decoder.`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.attention import projected, rows_at, visible
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import KVCache, Prefix
from speechprompt.lm.folder import read_config, read_weights, save_folder
from speechprompt.lm.packing import Packing
from speechprompt.lm.transformer import DecoderLayer, TransformerConfig, sinusoidal_positions
from speechprompt.vocab import UnitVocab
from units.errors import InputError
from units.weightless import weightless


class GSLM(UnitLM):
    """Decoder-only transformer over unit tokens; rows begin with `</s>`.

    Args:
        config: dimensions. The published model: 12 layers, 1024, 16 heads, 4096, 151,263,232 weights.
        vocab: the token inventory.
    """

    family = "gslm"
    takes_infix = True

    def __init__(self, config: TransformerConfig, vocab: UnitVocab) -> None:
        super().__init__()
        self.config = config
        self.vocab = vocab
        self.n_layers, self.n_heads, self.d_model = config.n_layers, config.n_heads, config.d_model
        self.max_positions = config.max_positions
        self.embed_tokens = nn.Embedding(len(vocab), config.d_model, padding_idx=vocab.pad)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.n_layers))
        self.layer_norm = config.last_norm()
        self.dropout = nn.Dropout(config.dropout)
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.output_projection = None if config.tied else nn.Linear(config.d_model, len(vocab), bias=False)
        self.embed_positions = (
            nn.Embedding(self._n_positions, config.d_model, padding_idx=vocab.pad)
            if config.positions == "learned"
            else None
        )
        self.fixed_positions_ND: Tensor
        self.register_buffer("fixed_positions_ND", self._fixed_positions(), persistent=False)

    @property
    def _n_positions(self) -> int:
        # The first token stands at padding id + 1, the last one at padding id + max_positions.
        return self.vocab.pad + 1 + self.max_positions

    def _fixed_positions(self) -> Tensor:
        # On the CPU even in a module without values: no file holds them.
        if self.config.positions == "sinusoidal":
            return sinusoidal_positions(self._n_positions, self.d_model, self.vocab.pad)
        n_rows = self._n_positions if self.config.positions == "none" else 0
        return torch.zeros(n_rows, self.d_model, device="cpu")

    def _position_table(self) -> Tensor:
        """What is added to the embeddings, row by position: learned or fixed."""
        return self.fixed_positions_ND if self.embed_positions is None else self.embed_positions.weight

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    def initialise(self, seed: int = 0) -> GSLM:
        """Draw new weights as fairseq does: embeddings N(0, 1/D), Xavier-uniform projections, zero biases."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.embed_tokens.weight.normal_(0, self.d_model**-0.5, generator=generator)
            self.embed_tokens.weight[self.vocab.pad] = 0
            for name, module in self.named_modules():
                if isinstance(module, nn.Linear):
                    gain = 2**-0.5 if name.endswith(("q_proj", "k_proj", "v_proj")) else 1.0
                    nn.init.xavier_uniform_(module.weight, gain, generator=generator)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            if self.embed_positions is not None:
                self.embed_positions.weight.normal_(0, self.d_model**-0.5, generator=generator)
                self.embed_positions.weight[self.vocab.pad] = 0
        return self

    def token_embedding(self, ids: Tensor) -> Tensor:
        """Embeddings (..., D) of ids (...); padding's is zero."""
        embedding: Tensor = self.embed_tokens(ids)
        return embedding

    def embed(
        self, ids_BT: Tensor, *, separator: Tensor | None = None, n_before_B: Tensor | None = None
    ) -> Tensor:
        """Scaled embeddings plus positions, the first token at position 2: (B, T, D)."""
        return self.dropout(self._placed_embedding(ids_BT, separator, n_before_B))

    def _placed_embedding(
        self, ids_BT: Tensor, separator: Tensor | None, n_before_B: Tensor | None
    ) -> Tensor:
        real_BT = ids_BT.ne(self.vocab.pad)
        position_BT = real_BT.cumsum(1)
        if n_before_B is not None:
            position_BT = position_BT + n_before_B[:, None]
        elif ids_BT.shape[1] > self.max_positions:
            raise InputError(
                f"row of {ids_BT.shape[1]} tokens: expected at most {self.max_positions}, the language model's "
                "longest; use shorter audio"
            )
        token_BTD = self.token_embedding(self._as_trained(ids_BT, position_BT))
        if separator is not None:
            token_BTD = torch.where(
                ids_BT.eq(self.vocab.bos)[:, :, None], separator.to(token_BTD.dtype), token_BTD
            )
        position_BTD = self._position_table()[position_BT * real_BT + self.vocab.pad]
        return self.embed_scale * token_BTD + position_BTD

    def _as_trained(self, ids_BT: Tensor, position_BT: Tensor) -> Tensor:
        """Ids to look up for a row's tokens; its first one, `</s>` whatever the family, has position 1."""
        return ids_BT

    def prefix(self, key_LPD: Tensor, value_LPD: Tensor) -> Prefix:
        """Project prompt vectors (L, P, D) by each layer's k_proj and v_proj, biases included."""
        return projected([layer.self_attn for layer in self._decoder_layers()], key_LPD, value_LPD)

    def key_value_inputs(self, x_BTD: Tensor) -> Tensor:
        """Each layer's input after its attention norm: (L, B, T, D)."""
        inputs = []
        for index, layer in enumerate(self._decoder_layers()):
            inputs.append(layer.attention_input(x_BTD))
            x_BTD = layer(x_BTD, layer=index)
        return torch.stack(inputs)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        prefix: Prefix | None = None,
        cache: KVCache | None = None,
        read_positions: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Run all layers and the last norm, see UnitLM; ValueError for a prefix beside a cache, or a full cache."""
        n_new = x_BTD.shape[1]
        if cache is not None:
            cache.require_room(n_new, prefix)
        n_past = cache.length if cache is not None else prefix.length if prefix is not None else 0
        padding_BS = self._padding(n_past, n_new, prefix, cache, key_padding_mask)
        given_BTS = prefix.visible_BTS if prefix is not None else None
        packing = (
            None if cache is not None or read_positions is None else Packing.up_to(read_positions, n_new)
        )
        x = x_BTD if packing is None else packing.pack(x_BTD)
        allowed = visible(n_past, n_new, padding_BS=padding_BS) if given_BTS is None else given_BTS[:, None]
        for index, layer in enumerate(self._decoder_layers()):
            read_BR = None
            if index == self.n_layers - 1 and read_positions is not None:
                read_BR = read_positions
                if given_BTS is None:
                    allowed = visible(n_past, n_new, read_BR=read_BR, padding_BS=padding_BS)
                else:
                    allowed = rows_at(given_BTS, read_BR)[:, None]
            side = (prefix.key_LBHPE[index], prefix.value_LBHPE[index]) if prefix is not None else None
            x = layer(
                x, layer=index, prefix=side, cache=cache, read_BR=read_BR, allowed=allowed, packing=packing
            )
        if cache is not None:
            cache.advance(n_new)
        hidden: Tensor = self.layer_norm(x)
        return hidden

    @staticmethod
    def _padding(
        n_past: int, n_new: int, prefix: Prefix | None, cache: KVCache | None, padding_BT: Tensor | None
    ) -> Tensor | None:
        """Padding over past and new positions, (B, n_past + n_new), or None where there is none."""
        if cache is None:
            return padding_BT if prefix is None else prefix.padding(padding_BT, n_new)
        if padding_BT is not None:
            cache.mark_padding(padding_BT)
        return cache.padding_BS[:, : n_past + n_new] if cache.has_padding else None

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Products with the output vectors (the embeddings where tied) of all tokens, or of `ids`."""
        outputs = self.embed_tokens if self.output_projection is None else self.output_projection
        weight = outputs.weight if ids is None else outputs.weight[ids]
        return F.linear(hidden, weight.to(hidden.dtype))

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """See UnitLM."""
        config = {
            "family": self.family,
            "transformer": self.config.to_dict(),
            "symbols": list(self.vocab.symbols),
        }
        save_folder(folder, config, self.saved_weights(), half=half)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> GSLM:
        """Read a model folder to float32, in evaluation mode. Raises: InputError."""
        config = read_config(Path(folder))
        try:
            transformer = TransformerConfig(**config["transformer"])
            vocab = UnitVocab(config["symbols"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: expected a {cls.family} language model, got {error!r}; restore it"
            ) from error
        weights = read_weights(folder, device=device)
        try:
            return cls.from_weights(transformer, vocab, weights)
        except RuntimeError as error:
            raise InputError(
                f"{folder}: expected the weights config.json describes; {error}; restore them"
            ) from error

    @classmethod
    def from_weights(cls, config: TransformerConfig, vocab: UnitVocab, weights: Mapping[str, Tensor]) -> GSLM:
        """Make a model of exactly these tensors (not copied), by state dict name, in evaluation mode.

        Raises: RuntimeError (torch's) for missing, further or misshapen tensors.
        """
        with weightless():
            model = cls(config, vocab)
        model.load_state_dict(dict(weights), assign=True)
        model.fixed_positions_ND = model.fixed_positions_ND.to(model.device)
        return model.eval()
