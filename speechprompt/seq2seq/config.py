"""What is trained on top of an encoder-decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from units.errors import InputError

KINDS = ("deep", "input", "none")
INITS = ("masks", "units")


@dataclass(frozen=True)
class Seq2SeqPromptConfig:
    """What is trained on top of the language model.

    Attributes:
        kind: "deep", vectors at every self-attention of encoder and decoder, and rows at both embeddings, as published;
            "input", these rows alone; "none", nothing.
        length: prompt positions of each.
        cross_attention: vectors also at every attention from decoder to encoder; of kind "deep" only.
        init: what it starts as: what the model makes of "masks", or of random "units", which a model that copies
            what it reads has to unlearn first.
        dropout: on prompt vectors, in training.
        language: tag of source and target rows; None for the language model's first one.
        finetune: train every weight of a copy of the language model, too.
        seed: of the units it starts as.
    Raises: InputError for values that do not fit together.
    """

    kind: str = "deep"
    length: int = 20
    cross_attention: bool = False
    dropout: float = 0.1
    language: str | None = None
    finetune: bool = False
    seed: int = 0
    init: str = "masks"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"prompt: expected kind {' or '.join(KINDS)}, got {self.kind!r}; correct the setting"
            )
        if self.init not in INITS:
            raise InputError(
                f"prompt: expected init {' or '.join(INITS)}, got {self.init!r}; correct the setting"
            )
        if (self.kind == "none") != (self.length == 0) or self.length < 0:
            raise InputError(
                f"prompt length: expected at least 1, and 0 of kind none, got {self.length} of kind {self.kind}; "
                "correct the setting"
            )
        if self.cross_attention and self.kind != "deep":
            raise InputError(
                f"cross_attention: expected a prompt of kind deep, got {self.kind}; leave it out or use deep"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for run.json; Seq2SeqPromptConfig(**d) reads it back."""
        return asdict(self)


def published_parameter_count(length: int, n_encoder_layers: int, n_decoder_layers: int, d_model: int) -> int:
    """Trainable weights of a prompt of kind "deep": two vectors per position and layer, and a row at each embedding.

    10,240,000 for l = 200 on a unit mBART (12 + 12 layers, d = 1024), the 10 M of SpeechGen (Wu et al. 2023).
    """
    return length * d_model * (2 * (n_encoder_layers + n_decoder_layers) + 2)
