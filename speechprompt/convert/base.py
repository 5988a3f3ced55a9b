"""What every conversion reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from units.types import UnitSpec


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    kind: of the model, "gslm" say. to: the folder or file written. dimensions: by name, as in our configuration.
    n_parameters: weights written, tied ones once. dictionary_size: tokens, special ones included, None where there is
    no dictionary. spec: the units it speaks, None where the file does not say.
    ignored: tensors of the file that were left out, with the reason.
    """

    kind: str
    to: Path
    dimensions: Mapping[str, Any]
    n_parameters: int
    dictionary_size: int | None = None
    spec: UnitSpec | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            **asdict(self),
            "to": str(self.to),
            "spec": None if self.spec is None else self.spec.to_dict(),
        }
