"""From a family's name, a corpus and a size to what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speechprompt.lm.denoising import DenoisingConfig
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.prosody import ProsodyConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.pretraining.config import PretrainConfig
from speechprompt.pretraining.corpus import UnitCorpus
from speechprompt.pretraining.denoise import Denoise
from speechprompt.pretraining.next_unit import NextUnit
from speechprompt.pretraining.objective import Objective
from speechprompt.pretraining.prosodic import Prosodic
from speechprompt.vocab import MBartVocab, UnitVocab
from units.errors import InputError

PRETRAINABLE = ("gslm", "unit-mbart", "pgslm")
# The delays of the published discrete model; F0 bins are fitted on the corpus.
PROSODY = {
    "discrete": ProsodyConfig(discrete_duration=True, discrete_f0=True, duration_delay=1, f0_delay=1),
    "continuous": ProsodyConfig(duration_delay=1, f0_delay=1),
}


@dataclass(frozen=True)
class ModelSize:
    """Dimensions that all families share; the defaults are those of the stack `mini`.

    layers: of the decoder; unit mBART has as many in its encoder. width: of the residual stream. heads: of attention.
    ffn: inner width of the feed-forward parts. dropout: in training. max_positions: most tokens of a row.
    """

    layers: int = 6
    width: int = 256
    heads: int = 4
    ffn: int = 1024
    dropout: float = 0.1
    max_positions: int = 1024


def objective_of(
    lm: str,
    corpus: UnitCorpus,
    size: ModelSize,
    config: PretrainConfig,
    *,
    language: str = "und",
    noise: DenoisingConfig | None = None,
    n_sentences: int = 3,
    prosody: ProsodyConfig | None = None,
) -> Objective[Any, Any]:
    """Make what is trained.

    lm: "gslm", "unit-mbart" or "pgslm". language: unit mBART's tag of the rows. noise, n_sentences: unit mBART's, see
    `Denoise`. prosody: pGSLM's streams, None for discrete ones.
    Raises: InputError for an unknown family, or options that do not fit it.
    """
    spec = corpus.spec
    valid = [row.sequence.units for row in corpus.valid]
    if lm == "gslm":
        train = [row.sequence.units for row in corpus.train]
        vocab = UnitVocab.from_n_units(spec.n_units)
        return NextUnit(_transformer(size), vocab, train, config, valid=valid, spec=spec)
    if lm == "unit-mbart":
        side = _transformer(size, activation="gelu", positions="learned")
        return Denoise(
            MBartConfig(side, side),
            MBartVocab([str(unit) for unit in range(spec.n_units)], [language]),
            corpus.groups(),
            config,
            language=language,
            noise=noise,
            n_sentences=n_sentences,
            valid=valid,
            spec=spec,
        )
    if lm == "pgslm":
        return Prosodic(
            _transformer(size),
            prosody or PROSODY["discrete"],
            corpus.train,
            config,
            n_units=spec.n_units,
            valid=corpus.valid,
            spec=spec,
        )
    raise InputError(f"language model: expected {', '.join(PRETRAINABLE)}, got {lm!r}; choose one of these")


def _transformer(size: ModelSize, **kind: Any) -> TransformerConfig:
    return TransformerConfig(
        n_layers=size.layers,
        d_model=size.width,
        n_heads=size.heads,
        d_ffn=size.ffn,
        dropout=size.dropout,
        max_positions=size.max_positions,
        **kind,
    )
