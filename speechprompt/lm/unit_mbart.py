"""Unit mBART: an encoder-decoder of the GSLM's layers, learned positions, one embedding for everything.

Encoder and decoder take a key/value prefix at each self-attention, as a decoder-only unit LM does.

Shapes: B rows, S source tokens, T target tokens, L layers, P prefix positions, D model dimension, H heads, E head
dimension, V vocabulary. Of decoding: B may be the hypotheses of several rows, those of one row next to each other.

Source: Liu et al. 2020 (mBART) over units as trained by Popuri et al. 2022; fairseq's `mbart_large`, parameter names
included.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.cache import KVCache, Prefix
from speechprompt.lm.encoder_decoder import CrossAttention, CrossLayer, Memory, Side, before, side_of
from speechprompt.lm.folder import fill, fingerprint, read_config, read_weights, save_folder
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import DecoderLayer, sinusoidal_positions
from speechprompt.vocab import MBartVocab
from units.errors import InputError
from units.weightless import weightless

ENCODER_EMBEDDING, DECODER_EMBEDDING = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
OUTPUT = "output_projection.weight"
_SHARPER = 8**0.5  # than other attention begins: two thirds of it then lie within two places of a token's own
_HANDED_ON = 2**0.5


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
        self.encoder = Side(config.encoder, DecoderLayer, source, norm=config.norm_embedding)
        self.decoder = Side(config.decoder, CrossLayer, target, norm=config.norm_embedding)
        self.output_projection: nn.Linear | None = None
        if not config.decoder.tied:
            self.output_projection = nn.Linear(self.d_model, len(vocab), bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.embed_tokens.weight.device

    def initialise(self, seed: int = 0) -> UnitMBart:
        """Draw new weights as GSLM's: embeddings N(0, 1/D), Xavier-uniform projections, zero biases.

        Two things begin otherwise, so that to copy what is read need not be found by chance: learned positions as
        sinusoids, the same on both sides, and the decoder's attention to the encoder as one that looks for what is
        like itself (keys projected as queries are) and hands it on (outputs projected back as values were).
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, nn.Embedding):
                    module.weight.normal_(0, self.d_model**-0.5, generator=generator)
                    module.weight[self.vocab.pad] = 0
                elif isinstance(module, nn.Linear):
                    gain = 2**-0.5 if name.endswith(("q_proj", "k_proj", "v_proj")) else 1.0
                    nn.init.xavier_uniform_(module.weight, gain, generator=generator)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            self._begin_to_copy()
        return self

    def _begin_to_copy(self) -> None:
        for side in (self.encoder, self.decoder):
            if side.embed_positions is not None:
                table_ND = sinusoidal_positions(side.n_positions, self.d_model, self.vocab.pad)
                side.embed_positions.weight.copy_(table_ND)
        for attention in self.cross_attentions():
            attention.q_proj.weight.mul_(_SHARPER)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.v_proj.weight.mul_(_HANDED_ON)
            attention.out_proj.weight.copy_(attention.v_proj.weight.T)

    def encode(
        self,
        ids_BS: Tensor,
        *,
        prefix: Prefix | None = None,
        rows_PD: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Memory:
        """Read source rows.

        Args:
            ids_BS: int64, padded on the right.
            prefix: of the encoder's self-attentions.
            rows_PD: an input prompt, put before the embedded tokens; the decoder looks at what becomes of it, too.
            states: is given the embedded input and each layer's output, (B, S, D) each; those at padding mean nothing.
        Raises: InputError for a row longer than max_positions.
        """
        x_BSD, real = self.encoder.embed(ids_BS), ids_BS.ne(self.vocab.pad)[:, None, None]
        if rows_PD is not None:
            x_BSD, real = before(rows_PD, x_BSD), F.pad(real, (len(rows_PD), 0), value=True)
        allowed = real if prefix is None else F.pad(real, (prefix.length, 0), value=True)
        if states is not None:
            states.append(x_BSD)
        for index, layer in enumerate(self.encoder.blocks()):
            x_BSD = layer(x_BSD, layer=index, prefix=side_of(prefix, index), allowed=allowed)
            if states is not None:
                states.append(x_BSD)
        hidden_BSD = self.encoder.layer_norm(x_BSD)
        attentions = self.cross_attentions()
        keys = torch.stack([a.split(a.k_proj(hidden_BSD)) for a in attentions])
        values = torch.stack([a.split(a.v_proj(hidden_BSD)) for a in attentions])
        return Memory(hidden_BSD, keys, values, real)

    def decode(
        self,
        ids_BT: Tensor,
        memory: Memory,
        *,
        prefix: Prefix | None = None,
        rows_PD: Tensor | None = None,
        cache: KVCache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Read target rows, padded on the right: hidden states (B, T, D), for `logits`.

        Args:
            ids_BT: int64, the start token first.
            memory: from `encode`; with fewer rows than ids_BT, each stands for as many consecutive ones.
            prefix: of the decoder's self-attentions; with a cache it goes into `new_cache` instead.
            rows_PD: an input prompt before the first token; with a cache only in its first call.
            cache: the past; these tokens are appended to it. No token in it may be padding.
            states: is given the embedded input and each layer's output, (B, T, D) each.
        Raises: InputError for a row longer than max_positions; ValueError for a prefix beside a cache.
        """
        if prefix is not None and cache is not None:
            raise ValueError("a prefix belongs to the cache: give it to new_cache, not to decode")
        n_before = 0 if cache is None else cache.length - cache.n_prefix
        x_BTD = self.decoder.embed(ids_BT, n_before)
        n_rows = 0 if rows_PD is None else len(rows_PD)
        if rows_PD is not None:
            x_BTD = before(rows_PD, x_BTD)
        if states is not None:
            states.append(x_BTD)
        for index, layer in enumerate(self._cross_layers()):
            x_BTD = layer.attend_to_self(
                x_BTD, layer=index, prefix=side_of(prefix, index), cache=cache, read_BR=None, allowed=None
            )
            x_BTD = layer.transform(layer.attend_to_memory(x_BTD, index, memory))
            if states is not None:
                states.append(x_BTD)
        if cache is not None:
            cache.advance(x_BTD.shape[1])
            cache.n_prefix += n_rows  # they take no position of the tokens'
        hidden_BTD: Tensor = self.decoder.layer_norm(x_BTD[:, n_rows:])
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

    def cross_attentions(self) -> list[CrossAttention]:
        """The decoder's attentions to the encoder's output, layer by layer."""
        return [layer.encoder_attn for layer in self._cross_layers()]

    def fingerprint(self) -> str:
        """Which model this is, see `folder.fingerprint`."""
        return fingerprint(self)

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
        with weightless():
            model = cls(config, vocab)
        fill(model, weights, folder)
        model.eval()
        return model
