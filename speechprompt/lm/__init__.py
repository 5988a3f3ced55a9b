"""Unit language models, by family."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from units.errors import InputError

# Where each family lives: one that is not used is not imported, because transformers alone takes seconds.
FAMILIES = {
    "gslm": "speechprompt.lm.gslm:GSLM",
    "pgslm": "speechprompt.lm.pgslm:PGSLM",
    "unit_mbart": "speechprompt.lm.unit_mbart:UnitMBart",
    "causal_hf": "speechprompt.lm.causal_hf:CausalHF",
}


def lm_class(family: str) -> Any:
    """Give the class of a family. Raises: InputError for one that is not known."""
    if family not in FAMILIES:
        raise InputError(f"language model: expected a family of {', '.join(FAMILIES)}, got {family!r}")
    module, name = FAMILIES[family].split(":")
    return getattr(import_module(module), name)


def load_lm(folder: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """Load a language model in evaluation mode: a `UnitLM`, or a `UnitMBart`, whose decoder needs a source.

    folder: one that a family's `save` wrote, a folder of transformers, or a hub name `owner/name`.
    Raises: InputError for a folder that is not one, or of a family that is not known.
    """
    return lm_class(_family_of(folder)).load(folder, device=device)


def _family_of(folder: str | Path) -> str:
    file = Path(folder) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not Path(folder).exists() and str(folder).count("/") == 1:
            return "causal_hf"
        raise InputError(
            f"{file}: expected a language model's configuration, got none; check the path"
        ) from error
    except (NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file}: expected a language model's configuration, got {error}; check the path"
        ) from error
    if not isinstance(config, dict) or not ("family" in config or "model_type" in config):
        raise InputError(f"{file}: expected a language model's configuration with its family; check the path")
    family = config.get("family", "causal_hf")  # transformers' own folders name a model_type and no family
    if family not in FAMILIES:
        raise InputError(
            f"{folder}: expected a language model family of {', '.join(FAMILIES)}, got {family!r}"
        )
    return str(family)
