"""pGSLM: the GSLM's decoder over three streams, which reads and predicts units, durations and F0 together.

Shapes: B rows, T tokens, D model dimension, V vocabulary, C output channels.

Source: Kharitonov et al. 2022, "Text-Free Prosody-Aware Generative Spoken Language Modeling"; fairseq's
`transformer_ulm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.lm.folder import fill, read_config, read_weights, save_folder
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.pgslm_streams import StreamBatch, Streams, row_streams
from speechprompt.lm.prosody import ProsodyConfig, known_edges
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.vocab import UnitsFirstVocab
from units.errors import InputError
from units.weightless import weightless


@dataclass(frozen=True, eq=False)
class StreamLogits:
    """What follows each position, (..., C): token logits, and duration and F0 as logits or as one number."""

    tokens: Tensor
    durations: Tensor
    f0: Tensor


@dataclass(frozen=True, eq=False)
class StreamLosses:
    """Sums over all counted targets of a batch: cross entropy, or absolute difference where a stream is continuous."""

    tokens: Tensor
    durations: Tensor
    f0: Tensor

    def weighted(self, tokens: float = 1.0, durations: float = 0.5, f0: float = 0.5) -> Tensor:
        """One loss; the default weights are those of the published training."""
        return tokens * self.tokens + durations * self.durations + f0 * self.f0


class PGSLM(GSLM):
    """Decoder-only transformer over units, durations and F0; rows begin with `<s>`.

    Prompts that classify recordings give it all streams (`embed_rows`). Elsewhere it reads units alone, as any other
    `UnitLM` does, and takes their prosody for zero: `embed` without the other streams. Prompts, decoding and perplexity
    begin rows of every family with `</s>`, because `<s>` is what a prompt's separator replaces; a first `</s>` is
    looked up as the `<s>` that this model was trained to begin with.

    Args:
        config: dimensions. vocab: units first, special tokens after them. prosody: the other two streams.
    """

    family = "pgslm"
    vocab: UnitsFirstVocab

    def __init__(self, config: TransformerConfig, vocab: UnitsFirstVocab, prosody: ProsodyConfig) -> None:
        super().__init__(config, vocab)
        self.prosody = prosody
        self.embed_duration = _stream_input(prosody.discrete_duration, prosody.n_duration_classes, config)
        self.embed_f0 = _stream_input(prosody.discrete_f0, prosody.n_f0_classes, config)
        self.channels = (len(vocab), prosody.n_duration_classes, prosody.n_f0_classes)
        self.project_out = nn.Linear(config.d_model, sum(self.channels), bias=False)

    def initialise(self, seed: int = 0) -> PGSLM:
        """Draw new weights: the decoder's as a GSLM's, the other streams' embeddings N(0, 1/D)."""
        super().initialise(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for embedding in (self.embed_duration, self.embed_f0):
                if isinstance(embedding, nn.Embedding):
                    embedding.weight.normal_(0, self.d_model**-0.5, generator=generator)
        return self

    @property
    def reads_prosody(self) -> bool:
        """See UnitLM. Raises InputError where F0 is read in bins whose borders are not known."""
        if self.prosody.f0_input and self.prosody.discrete_f0:
            known_edges(self.prosody)
        return self.prosody.duration_input or self.prosody.f0_input

    def embed(
        self,
        ids_BT: Tensor,
        *,
        separator: Tensor | None = None,
        n_before_B: Tensor | None = None,
        durations_BT: Tensor | None = None,
        f0_BT: Tensor | None = None,
    ) -> Tensor:
        """Scaled token embeddings plus those of the other streams plus positions: (B, T, D).

        Args:
            ids_BT: see UnitLM.
            separator: see UnitLM.
            n_before_B: see UnitLM.
            durations_BT: numbers or classes; None for zeros, which a model without duration input reads in any case.
            f0_BT: likewise.
        """
        prosody = self.prosody
        durations_BT = durations_BT if prosody.duration_input else None
        f0_BT = f0_BT if prosody.f0_input else None
        return self.dropout(
            self._placed_embedding(ids_BT, separator, n_before_B)
            + self._embed_stream(self.embed_duration, durations_BT, ids_BT)
            + self._embed_stream(self.embed_f0, f0_BT, ids_BT)
        )

    def embed_rows(
        self, ids_BT: Tensor, prosody_BT2: Tensor | None = None, *, separator: Tensor | None = None
    ) -> Tensor:
        """As `embed`, with durations and F0 clamped, in bins and delayed as in training; see UnitLM, `row_streams`."""
        if prosody_BT2 is None:
            return self.embed(ids_BT, separator=separator)
        streams = row_streams(ids_BT, prosody_BT2, self.vocab, self.prosody)
        return self.embed(ids_BT, separator=separator, durations_BT=streams.durations, f0_BT=streams.f0)

    def _as_trained(self, ids_BT: Tensor, position_BT: Tensor) -> Tensor:
        begins_BT = position_BT.eq(1) & ids_BT.eq(self.vocab.eos)
        return ids_BT.masked_fill(begins_BT, self.vocab.bos)

    def _embed_stream(self, embedding: nn.Module, stream_BT: Tensor | None, ids_BT: Tensor) -> Tensor:
        stream_BT = torch.zeros_like(ids_BT) if stream_BT is None else stream_BT
        if isinstance(embedding, nn.Linear):
            stream_BT = stream_BT[:, :, None].to(embedding.weight.dtype)
        embedded_BTD: Tensor = embedding(stream_BT)
        return embedded_BTD

    def read(self, streams: Streams) -> StreamLogits:
        """Predict what follows each position of whole rows (B, T)."""
        x_BTD = self.embed(streams.tokens, durations_BT=streams.durations, f0_BT=streams.f0)
        return self.stream_logits(self(x_BTD))

    def stream_logits(self, hidden: Tensor) -> StreamLogits:
        """Hidden states (..., D) to all channels."""
        return StreamLogits(*self.project_out(hidden).split(self.channels, dim=-1))

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Logits of all tokens, or of `ids`; durations and F0 are left out."""
        weight = self.project_out.weight[: self.channels[0]]
        return F.linear(hidden, (weight if ids is None else weight[ids]).to(hidden.dtype))

    def losses(self, batch: StreamBatch) -> StreamLosses:
        """Summed losses of the three streams over the targets that count."""
        logits, target, masked = self.read(batch.source), batch.target, batch.masked
        prosody = self.prosody
        return StreamLosses(
            _loss(logits.tokens, target.tokens, masked.tokens, True),
            _loss(logits.durations, target.durations, masked.durations, prosody.discrete_duration),
            _loss(logits.f0, target.f0, masked.f0, prosody.discrete_f0),
        )

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Write config.json and model.safetensors, each atomically."""
        config = {
            "family": self.family,
            "transformer": self.config.to_dict(),
            "n_units": self.vocab.n_units,
            "prosody": self.prosody.to_dict(),
        }
        save_folder(folder, config, self.saved_weights(), half=half)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> PGSLM:
        """Read a model folder to float32, in evaluation mode. Raises: InputError."""
        config = read_config(Path(folder))
        try:
            transformer = TransformerConfig(**config["transformer"])
            vocab, prosody = UnitsFirstVocab(config["n_units"]), ProsodyConfig(**config["prosody"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: expected a {cls.family} language model, got {error!r}; restore it"
            ) from error
        weights = read_weights(folder, device=device)
        with weightless():
            model = cls(transformer, vocab, prosody)
        fill(model, weights, folder)
        model.fixed_positions_ND = model.fixed_positions_ND.to(device)
        model.eval()
        return model


def _stream_input(discrete: bool, n_classes: int, config: TransformerConfig) -> nn.Module:
    return nn.Embedding(n_classes, config.d_model) if discrete else nn.Linear(1, config.d_model)


def _loss(output_BTC: Tensor, target_BT: Tensor, masked_BT: Tensor, discrete: bool) -> Tensor:
    counted_BT = ~masked_BT
    if discrete:
        return F.cross_entropy(output_BTC[counted_BT].float(), target_BT[counted_BT], reduction="sum")
    return (output_BTC[..., 0][counted_BT].float() - target_BT[counted_BT]).abs().sum()
