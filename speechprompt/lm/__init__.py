"""Unit language models, by family."""

from __future__ import annotations

from pathlib import Path

import torch

from speechprompt.lm.base import UnitLM
from speechprompt.lm.gslm import GSLM, read_config
from speechprompt.lm.pgslm import PGSLM
from units.errors import InputError

FAMILIES: dict[str, type[UnitLM]] = {GSLM.family: GSLM, PGSLM.family: PGSLM}


def load_lm(folder: str | Path, *, device: str | torch.device = "cpu") -> UnitLM:
    """Load a language model folder (config.json, model.safetensors) of any family, in evaluation mode.

    Raises: InputError for a folder that is not one, or of a family that is not known.
    """
    family = read_config(Path(folder))["family"]
    if family not in FAMILIES:
        raise InputError(
            f"{folder}: expected a language model family of {', '.join(FAMILIES)}, got {family!r}"
        )
    return FAMILIES[family].load(folder, device=device)
