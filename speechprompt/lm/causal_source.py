"""Loading a causal language model of transformers from a folder or the hub, strictly and in float32.

Slam's files wrap the model: configuration under `base_config`, weights under `lm.`; nothing of its code is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import cached_file

from speechprompt.lm.causal_units import SLAM, parse_json
from units.errors import InputError
from units.hf_loading import loading

_WRAPPED = "lm."


def read_model_json(source: str | Path, name: str) -> dict[str, Any] | None:
    """Read a JSON file of a model's folder or hub repository; None where it has none. Raises: InputError."""
    file = _file(source, name)
    return None if file is None else parse_json(file.read_text(encoding="utf-8"), str(file))


def load_causal(source: str | Path) -> Any:
    """Load a causal language model with its output layer, in float32 and evaluation mode.

    Raises: InputError: nothing loadable there, code of its own needed, or weights missing.
    """
    config = read_model_json(source, "config.json")
    if config is not None and config.get("model_type") == SLAM:
        return _load_slam(source, config)
    with loading(source, "causal language model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(source), dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    model, info = loaded
    _require_whole(source, {*info["missing_keys"], *info["mismatched_keys"]})
    return model.eval()


def _load_slam(source: str | Path, config: dict[str, Any]) -> Any:
    base = config.get("base_config")
    if not isinstance(base, dict) or "model_type" not in base:
        raise InputError(
            f"{source}: expected base_config with its model_type in config.json, got none; restore it"
        )
    settings = {
        key: value for key, value in base.items() if key not in ("model_type", "torch_dtype", "dtype")
    }
    settings["vocab_size"] = config.get("vocab_size", base.get("vocab_size"))
    with loading(source, "causal language model"):
        inner = AutoConfig.for_model(base["model_type"], **settings)
        model = AutoModelForCausalLM.from_config(inner, dtype=torch.float32, trust_remote_code=False)
    state = {name.removeprefix(_WRAPPED): tensor.float() for name, tensor in _read_weights(source).items()}
    expected = model.state_dict()
    wrong = [
        name for name, tensor in state.items() if name in expected and tensor.shape != expected[name].shape
    ]
    unknown = [name for name in state if name not in expected]
    found = model.load_state_dict(
        {name: t for name, t in state.items() if name not in wrong + unknown}, strict=False
    )
    model.tie_weights()
    loaded = {expected[name].data_ptr() for name in state if name in expected}
    lacking = [
        name for name in found.missing_keys if expected[name].data_ptr() not in loaded
    ]  # tied ones are there
    _require_whole(source, {*wrong, *unknown, *lacking})
    return model.eval()


def _read_weights(source: str | Path) -> dict[str, Tensor]:
    single = _file(source, "model.safetensors")
    index = None if single is not None else read_model_json(source, "model.safetensors.index.json")
    names = ["model.safetensors"] if index is None else sorted(set(index.get("weight_map", {}).values()))
    weights: dict[str, Tensor] = {}
    for name in names:
        file = _file(source, name)
        if file is None:
            raise InputError(
                f"{source}: expected weights in {name}, got no such file; fetch or save the model again"
            )
        try:
            weights.update(load_file(file))
        except SafetensorError as error:
            raise InputError(
                f"{file}: expected safetensors, got {error}; fetch or save the model again"
            ) from error
    return weights


def _file(source: str | Path, name: str) -> Path | None:
    if Path(source).is_dir():
        file = Path(source) / name
        return file if file.is_file() else None
    with loading(source, "causal language model"):
        found = cached_file(
            str(source),
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=True,
        )
    return None if found is None else Path(found)


def _require_whole(source: str | Path, names: set[Any]) -> None:
    if names:
        first = ", ".join(sorted(map(str, names))[:3])
        raise InputError(
            f"{source}: expected exactly the weights config.json describes, got {len(names)} missing, misshapen or "
            f"unknown ({first}); fetch or save the model again"
        )
