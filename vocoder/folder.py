"""A unit vocoder's folder: config.json (sizes, unit inventory, speakers) and model.safetensors (plain weights)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from units.atomic import atomic_path
from units.errors import InputError
from units.types import UnitSpec
from vocoder.config import HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import folded_state_dict


class Parts(NamedTuple):
    """What a folder holds. generator: with plain float32 weights. speakers: names of its speaker table's rows."""

    generator: UnitHiFiGAN
    spec: UnitSpec
    speakers: Sequence[str]


def write_vocoder(folder: str | Path, parts: Parts, dtype: torch.dtype) -> None:
    """Write both files, each atomically. folder: made where missing. dtype: of the stored weights."""
    folder = Path(folder)
    state = {
        name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in parts.generator.state_dict().items()
    }
    with atomic_path(folder / "model.safetensors") as path:
        save_file(state, path)
    described = parts.generator.config.to_dict() | {
        "spec": parts.spec.to_dict(),
        "speakers": list(parts.speakers),
    }
    with atomic_path(folder / "config.json") as path:
        path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_vocoder(folder: str | Path) -> Parts:
    """Read both files. Raises InputError: one is missing, unreadable, or does not fit the other."""
    folder = Path(folder)
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise InputError(
                f"{folder}: expected a vocoder folder with {path.name}, got none; check the path"
            )
    try:
        described = json.loads(config_path.read_text(encoding="utf-8"))
        spec, speakers = UnitSpec.from_dict(described["spec"]), described["speakers"]
        generator = UnitHiFiGAN(HiFiGANConfig.from_dict(described))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{config_path}: expected a vocoder's config, got {error!r}; save the vocoder anew"
        ) from error
    try:
        state = {name: tensor.float() for name, tensor in load_file(weights_path).items()}
        generator.load_state_dict(folded_state_dict(state))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"{weights_path}: expected the weights that config.json describes, got {first}; save the vocoder anew"
        ) from error
    return Parts(generator, spec, speakers)
