"""Audio to discrete units: encoders, codebooks, quantizers, stores. Imports nothing else of the project."""

from units.errors import AudioError, InputError, UnitSpecMismatch
from units.types import Encoder, Quantizer, UnitSequence, UnitSpec, Vocoder

__all__ = [
    "AudioError",
    "Encoder",
    "InputError",
    "Quantizer",
    "UnitSequence",
    "UnitSpec",
    "UnitSpecMismatch",
    "Vocoder",
]
