"""Folders of a model: config.json and model.safetensors, written atomically and read back strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from units.atomic import atomic_path
from units.errors import InputError


def save_folder(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, half: bool = False
) -> None:
    """Write a model folder; weights in float16 if `half`, else in float32."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()}
    with atomic_path(folder / "model.safetensors") as file:
        save_file(tensors, file)
    with atomic_path(folder / "config.json") as file:
        file.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def read_weights(folder: str | Path, *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Read model.safetensors in float32. Raises: InputError where there is none, or a damaged one."""
    file = Path(folder) / "model.safetensors"
    try:
        return {name: tensor.float() for name, tensor in load_file(file, device=str(device)).items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: expected a model's weights, got {error!r}; restore it") from error


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Give a model built on the meta device its weights, without a copy.

    Raises: InputError for a missing, unknown or misshapen weight.
    """
    try:
        model.load_state_dict(dict(weights), assign=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"{source}: expected the weights config.json describes; {text}; restore them"
        ) from error


def fingerprint(model: nn.Module) -> str:
    """Sha256 over names, shapes and float32 values of all tensors, in order of name: which model this is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Read a language model folder's config.json. Raises: InputError where there is none or it is not one."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file}: expected a language model's configuration, got {error}; check the path"
        ) from error
    if not isinstance(config, dict) or "family" not in config:
        raise InputError(f"{file}: expected a language model's configuration with its family; check the path")
    return config
