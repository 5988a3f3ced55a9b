"""The state of an unfinished training, as `torch.save` wrote it: tensors and plain values, nothing that is executed."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from units.errors import InputError

# What torch's restricted unpickler has been seen to raise on damaged files (tests/fuzz), and what else of its kind.
_DAMAGED = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    NotImplementedError,
)


def read_training_state(file: str | Path, remedy: str) -> dict[str, Any]:
    """Read a state to the CPU.

    remedy: what to do about an unreadable one, for the message.
    Raises: InputError: not a state, or a damaged one; FileNotFoundError: no such file.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise InputError(f"{file}: expected a training state, got {error}; {remedy}") from error
    if not isinstance(state, dict):
        raise InputError(f"{file}: expected a training state, got {type(state).__name__}; {remedy}")
    return state
