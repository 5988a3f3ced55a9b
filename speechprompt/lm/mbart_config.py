"""Dimensions and kinds of a unit mBART's two sides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from speechprompt.lm.transformer import TransformerConfig
from units.errors import InputError


@dataclass(frozen=True)
class MBartConfig:
    """Dimensions and kinds of an encoder-decoder.

    Attributes:
        encoder: layers, and the most source tokens; positions "learned" in the published model.
        decoder: likewise, of the same width. `tied`: logits are products with its token embedding.
        norm_embedding: a layer norm over token embedding plus position.
        share_embedding: encoder and decoder have one token embedding.
    Raises: InputError for widths that differ.
    """

    encoder: TransformerConfig
    decoder: TransformerConfig
    norm_embedding: bool = True
    share_embedding: bool = True

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
