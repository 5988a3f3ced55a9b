"""A CPC_audio checkpoint to our encoder folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from speechprompt.convert.base import Converted
from speechprompt.fairseq import CheckpointError, UsedTensors
from units.atomic import atomic_path
from units.encoders.cpc import FAMILY
from units.encoders.cpc_network import CPCConfig, CPCNetwork
from units.errors import InputError
from units.safe_pickle import read_torch_file


def convert(path: str | Path, to: str | Path) -> Converted:
    """Write config.json and model.safetensors, all recurrent levels of the file included.

    Args:
        path: a file of {"config": dict, "weights": state dict}, as GSLM publishes it.
        to: the folder.
    Raises: InputError for a file that is not one, or a model of a kind that we do not have.
    """
    path, to = Path(path), Path(to)
    content = read_torch_file(path)
    if not isinstance(content, dict) or not {"config", "weights"} <= content.keys():
        raise CheckpointError(
            f"{path}: expected a CPC checkpoint of config and weights; is it another kind of model?"
        )
    config = _config(content["config"], path)
    used = UsedTensors(content["weights"], path)
    network = CPCNetwork(config)
    weights = {
        name: used.take(name, tuple(tensor.shape)).contiguous()
        for name, tensor in network.state_dict().items()
    }
    ignored = used.finish()
    to.mkdir(parents=True, exist_ok=True)
    with atomic_path(to / "model.safetensors") as file:
        save_file(weights, file)
    with atomic_path(to / "config.json") as file:
        text = json.dumps({"model_type": FAMILY, "network": config.to_dict()}, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    n_parameters = sum(tensor.numel() for tensor in weights.values() if tensor.dtype != torch.int64)
    return Converted("cpc", to, config.to_dict(), n_parameters, ignored=ignored)


def _config(data: dict[str, Any], path: Path) -> CPCConfig:
    """Read the original's options. Raises: InputError for kinds of network that are not supported."""
    kinds = {"encoder_type": "cpc", "cpc_mode": None}
    for name, expected in kinds.items():
        if (data.get(name) or expected) not in (expected, "none"):
            raise CheckpointError(
                f"{path}: expected {name} {expected!r}, got {data[name]!r}; other kinds are not supported"
            )
    try:
        return CPCConfig(
            hidden_encoder=int(data["hiddenEncoder"]),
            hidden_context=int(data["hiddenGar"]),
            n_levels=int(data["nLevelsGRU"]),
            context=str(data.get("arMode", "LSTM")),
            norm=str(data.get("normMode", "layerNorm")),
        )
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected a CPC configuration, got {error!r}; is it another kind?"
        ) from error
