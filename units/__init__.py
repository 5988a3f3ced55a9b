"""Audio to discrete units: encoders, codebooks, quantizers, stores. Imports nothing else of the project."""

from units.errors import AudioError, InputError, UnitSpecMismatch
from units.kernel_cache import bound_kernel_cache
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

bound_kernel_cache()  # as early as can be: it must come before the first product
