"""Unit mBART: an encoder-decoder of the GSLM's layers, learned positions, one embedding for everything.

Encoder and decoder take a key/value prefix at each self-attention, as a decoder-only unit LM does.

Shapes: B rows, S source tokens, T target tokens, L layers, P prefix positions, D model dimension, H heads, E head
dimension, V vocabulary. Of decoding: B may be the hypotheses of several rows, those of one row next to each other.

Source: Liu et al. 2020 (mBART) over units as trained by Popuri et al. 2022; fairseq's `mbart_large`, parameter names
included.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.cache import KVCache, Prefix
from speechprompt.lm.folder import fill, read_weights, save_folder
from speechprompt.lm.gslm import read_config
from speechprompt.lm.transformer import DecoderLayer, SelfAttention, TransformerConfig, attend
from speechprompt.vocab import MBartVocab
from units.errors import InputError

ENCODER_EMBEDDING, DECODER_EMBEDDING = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
OUTPUT = "output_projection.weight"


@dataclass(frozen=True)
class MBartConfig:
    """Dimensions and kinds of an encoder-decoder.

    Attributes:
        encoder, decoder: of one width; their max_positions are the most source and target tokens.
        scale_embedding: token embeddings are multiplied by sqrt(D).
        norm_embedding: a layer norm over token embedding plus position.
        share_embedding: encoder and decoder have one token embedding.
        tied_output: logits are products with the decoder's token embedding.
    Raises: InputError for widths that differ.
    """

    encoder: TransformerConfig
    decoder: TransformerConfig
    scale_embedding: bool = True
    norm_embedding: bool = True
    share_embedding: bool = True
    tied_output: bool = True

    def __post_init__(self) -> None:
        if self.encoder.d_model != self.decoder.d_model:
            raise InputError(
                "unit mBART: expected encoder and decoder of one width, got "
                f"{self.encoder.d_model} and {self.decoder.d_model}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MBartConfig:
        """Read what `to_dict` gave. Raises: TypeError or KeyError where it is not that."""
        sides = {side: TransformerConfig(**data[side]) for side in ("encoder", "decoder")}
        return cls(**{**data, **sides})


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
        self.encoder_attn = CrossAttention(config)

    def attend_to_memory(self, x_BTD: Tensor, layer: int, memory: Memory) -> Tensor:
        """The middle of the layer, added to the residual stream."""
        mixed_BTD = self.encoder_attn.look(
            self.encoder_attn_layer_norm(x_BTD),
            memory.key_LBHSE[layer],
            memory.value_LBHSE[layer],
            memory.allowed,
        )
        return x_BTD + self.dropout(mixed_BTD)


class Side(nn.Module):
    """What encoder and decoder have in common: embeddings, layers, and the norms around them."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_type: type[DecoderLayer],
        embed_tokens: nn.Embedding,
        *,
        scale: bool,
        norm: bool,
    ) -> None:
        super().__init__()
        self.config = config
        self.pad = int(embed_tokens.padding_idx or 0)
        self.embed_tokens = embed_tokens
        self.embed_positions = nn.Embedding(config.max_positions + self.pad + 1, config.d_model)
        self.layernorm_embedding = nn.LayerNorm(config.d_model) if norm else nn.Identity()
        self.layers = nn.ModuleList(layer_type(config) for _ in range(config.n_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.scale = math.sqrt(config.d_model) if scale else 1.0

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
        x_BTD = self.scale * self.embed_tokens(ids_BT) + self.embed_positions(position_BT)
        embedded_BTD: Tensor = self.dropout(self.layernorm_embedding(x_BTD))
        return embedded_BTD

    def blocks(self) -> list[DecoderLayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def prefix(self, key_LPD: Tensor, value_LPD: Tensor) -> Prefix:
        """Project a deep prompt's vectors by each self-attention's k_proj and v_proj, biases included."""
        attentions = [layer.self_attn for layer in self.blocks()]
        keys = [a.split(a.k_proj(key_PD[None])) for a, key_PD in zip(attentions, key_LPD, strict=True)]
        values = [
            a.split(a.v_proj(value_PD[None])) for a, value_PD in zip(attentions, value_LPD, strict=True)
        ]
        return Prefix(torch.stack(keys), torch.stack(values))


def _side(prefix: Prefix | None, layer: int) -> tuple[Tensor, Tensor] | None:
    return None if prefix is None else (prefix.key_LBHPE[layer], prefix.value_LBHPE[layer])


class UnitMBart(nn.Module):
    """Encoder-decoder over unit tokens.

    Args:
        config: dimensions. vocab: units, language tags and `<mask>`.
    """

    family = "unit_mbart"

    def __init__(self, config: MBartConfig, vocab: MBartVocab) -> None:
        super().__init__()
        self.config, self.vocab = config, vocab
        self.d_model = config.encoder.d_model
        source = nn.Embedding(len(vocab), self.d_model, padding_idx=vocab.pad)
        target = source
        if not config.share_embedding:
            target = nn.Embedding(len(vocab), self.d_model, padding_idx=vocab.pad)
        kinds = {"scale": config.scale_embedding, "norm": config.norm_embedding}
        self.encoder = Side(config.encoder, DecoderLayer, source, **kinds)
        self.decoder = Side(config.decoder, CrossLayer, target, **kinds)
        self.output_projection: nn.Linear | None = None
        if not config.tied_output:
            self.output_projection = nn.Linear(self.d_model, len(vocab), bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.embed_tokens.weight.device

    def encode(
        self, ids_BS: Tensor, *, prefix: Prefix | None = None, states: list[Tensor] | None = None
    ) -> Memory:
        """Read source rows.

        Args:
            ids_BS: int64, padded on the right.
            prefix: of the encoder's self-attentions.
            states: is given the embedded input and each layer's output, (B, S, D) each; those at padding mean nothing.
        Raises: InputError for a row longer than max_positions.
        """
        x_BSD = self.encoder.embed(ids_BS)
        real = ids_BS.ne(self.vocab.pad)[:, None, None]
        allowed = real if prefix is None else F.pad(real, (prefix.length, 0), value=True)
        if states is not None:
            states.append(x_BSD)
        for index, layer in enumerate(self.encoder.blocks()):
            x_BSD = layer(x_BSD, layer=index, prefix=_side(prefix, index), allowed=allowed)
            if states is not None:
                states.append(x_BSD)
        hidden_BSD = self.encoder.layer_norm(x_BSD)
        attentions = [layer.encoder_attn for layer in self._cross_layers()]
        keys = torch.stack([a.split(a.k_proj(hidden_BSD)) for a in attentions])
        values = torch.stack([a.split(a.v_proj(hidden_BSD)) for a in attentions])
        return Memory(hidden_BSD, keys, values, real)

    def decode(
        self,
        ids_BT: Tensor,
        memory: Memory,
        *,
        prefix: Prefix | None = None,
        cache: KVCache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Read target rows, padded on the right: hidden states (B, T, D), for `logits`.

        Args:
            ids_BT: int64, the start token first.
            memory: from `encode`; with fewer rows than ids_BT, each stands for as many consecutive ones.
            prefix: of the decoder's self-attentions; with a cache it goes into `new_cache` instead.
            cache: the past; these tokens are appended to it. No token in it may be padding.
            states: is given the embedded input and each layer's output, (B, T, D) each.
        Raises: InputError for a row longer than max_positions; ValueError for a prefix beside a cache.
        """
        if prefix is not None and cache is not None:
            raise ValueError("a prefix belongs to the cache: give it to new_cache, not to decode")
        n_before = 0 if cache is None else cache.length - cache.n_prefix
        x_BTD = self.decoder.embed(ids_BT, n_before)
        if states is not None:
            states.append(x_BTD)
        for index, layer in enumerate(self._cross_layers()):
            x_BTD = layer.attend_to_self(
                x_BTD, layer=index, prefix=_side(prefix, index), cache=cache, read_BR=None, allowed=None
            )
            x_BTD = layer.transform(layer.attend_to_memory(x_BTD, index, memory))
            if states is not None:
                states.append(x_BTD)
        if cache is not None:
            cache.advance(ids_BT.shape[1])
        hidden_BTD: Tensor = self.decoder.layer_norm(x_BTD)
        return hidden_BTD

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) to logits (..., V)."""
        output = self.decoder.embed_tokens if self.output_projection is None else self.output_projection
        return F.linear(hidden, output.weight.to(hidden.dtype))

    def forward(
        self,
        source_BS: Tensor,
        target_BT: Tensor,
        *,
        encoder_prefix: Prefix | None = None,
        decoder_prefix: Prefix | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of what follows each target token."""
        memory = self.encode(source_BS, prefix=encoder_prefix)
        return self.logits(self.decode(target_BT, memory, prefix=decoder_prefix))

    def new_cache(self, n_rows: int, max_length: int, *, prefix: Prefix | None = None) -> KVCache:
        """A cache of the decoder for `n_rows` rows of at most `max_length` tokens, behind `prefix`."""
        config = self.config.decoder
        return KVCache(
            config.n_layers,
            n_rows,
            config.n_heads,
            config.d_head,
            max_length,
            prefix=prefix,
            device=self.device,
            dtype=self.encoder.embed_tokens.weight.dtype,
        )

    def _cross_layers(self) -> list[CrossLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, CrossLayer)]

    def freeze(self) -> UnitMBart:
        """Evaluation mode, no gradients for any weight; returns self."""
        self.eval()
        self.requires_grad_(False)
        return self

    def n_parameters(self) -> int:
        """Number of weights, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write config.json and model.safetensors (float16 if `half`, else float32), each atomically."""
        config = {
            "family": self.family,
            "mbart": self.config.to_dict(),
            "symbols": list(self.vocab.unit_symbols),
            "languages": list(self.vocab.languages),
        }
        weights = self.state_dict()
        if self.config.share_embedding:
            del weights[DECODER_EMBEDDING]
        save_folder(folder, config, weights, half=half)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> UnitMBart:
        """Read a model folder to float32, in evaluation mode. Raises: InputError for a folder that is not one."""
        data = read_config(Path(folder))
        try:
            config = MBartConfig.from_dict(data["mbart"])
            vocab = MBartVocab(data["symbols"], data["languages"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: expected a {cls.family} language model, got {error!r}; restore it"
            ) from error
        weights = read_weights(folder, device=device)
        if config.share_embedding and ENCODER_EMBEDDING in weights:
            weights[DECODER_EMBEDDING] = weights[ENCODER_EMBEDDING]
        with torch.device("meta"):  # drawing initial weights only to overwrite them takes most of the time
            model = cls(config, vocab)
        fill(model, weights, folder)
        model.eval()
        return model


class MBartDecoder:
    """The decoder side as a `beam.StepDecoder`: it writes what the encoder's memory asks for.

    Args:
        model: in evaluation mode.
        memory: from `encode`, one row for each row of the search.
        max_length: of the search.
        prefix: of the decoder's self-attentions.
    """

    def __init__(
        self, model: UnitMBart, memory: Memory, max_length: int, *, prefix: Prefix | None = None
    ) -> None:
        self.model, self.all_memory, self.memory = model, memory, memory
        self.pad, self.unk = model.vocab.pad, model.vocab.unk
        self.max_positions = model.config.decoder.max_positions
        self.max_length = max_length
        self.prefix = prefix
        self.cache = model.new_cache(0, 0)
        self.row_N = torch.arange(0)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def start(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, T, V) after each of the first tokens."""
        self.memory = self.all_memory
        self.row_N = torch.arange(len(ids_BT), device=ids_BT.device)
        self.cache = self.model.new_cache(len(ids_BT), self.max_length + 1, prefix=self.prefix)
        return self.model.logits(self.model.decode(ids_BT, self.memory, cache=self.cache))

    def step(self, ids_N: Tensor, rows_N: Tensor) -> Tensor:
        """Logits (N, V) after one more token."""
        self.cache.reorder(rows_N)
        self.row_N = self.row_N[rows_N]
        living_B = self.row_N.unique_consecutive()
        if len(living_B) != len(self.memory.hidden_BSD):
            self.memory = self.all_memory.rows(living_B)
        return self.model.logits(self.model.decode(ids_N[:, None], self.memory, cache=self.cache)[:, 0])
