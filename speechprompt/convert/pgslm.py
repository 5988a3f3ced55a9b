"""A fairseq `transformer_ulm` checkpoint (pGSLM) to our model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.convert.base import Converted
from speechprompt.convert.fairseq_transformer import (
    LM_OPTIONS,
    ignore_marks,
    norms,
    positions,
    take_all,
    transformer_config,
    transformer_tensors,
)
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from speechprompt.lm.folder import fill
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.prosody import ProsodyConfig
from speechprompt.vocab import SPECIALS, UnitsFirstVocab
from units.safe_pickle import read_torch_file
from units.weightless import weightless

STREAMS = ("embed_duration", "embed_f0")


def convert(
    checkpoint: FairseqCheckpoint, to: str | Path, *, data_config: str | Path | None = None
) -> Converted:
    """Write config.json and model.safetensors.

    Args:
        checkpoint: of the task speech_unit_modeling.
        to: the folder.
        data_config: the data_config.json published beside the checkpoint. It names the file with the borders of the F0
            bins, which are kept where that file is there, and must agree with the weights.
    Raises: InputError for another kind of model, or another model's data_config.
    """
    options, task = checkpoint.config["model"], checkpoint.config["task"]
    # Pre-norm whatever a file says, as in the reference.
    settings = {**task, **options, "decoder_normalize_before": True}
    used = transformer_tensors(checkpoint, settings, LM_OPTIONS)
    data = {} if data_config is None else _read_json(Path(data_config))
    n_units = used.shape("decoder.embed_tokens.weight")[0] - len(SPECIALS)
    _require_equal(data, "n_units", n_units, data_config)
    prosody = _prosody(task, used, data, data_config)
    vocab = UnitsFirstVocab(n_units)
    kind, n_positions = positions(used, settings, "decoder", vocab.pad)
    config = replace(
        transformer_config(options, "decoder", n_positions, checkpoint.path),
        positions=kind,
        scale_embedding=not options.get("no_scale_embedding", False),
        **norms(used, settings, "decoder"),
    )
    with weightless():
        model = PGSLM(config, vocab, prosody)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    weights = take_all(used, shapes, {name: _fairseq_name(name, used) for name in shapes})
    ignore_marks(used, "decoder")
    used.ignored(
        "decoder.output_projection.weight", "the reference computes its outputs with project_out_dim instead"
    )
    ignored = used.finish()
    fill(model, weights, checkpoint.path)
    model.save(to)
    dimensions = {**config.to_dict(), **prosody.to_dict(), "f0_edges": prosody.f0_edges is not None}
    return Converted(model.family, Path(to), dimensions, model.n_parameters(), len(vocab), ignored=ignored)


def _fairseq_name(name: str, used: UsedTensors) -> str:
    """Our name of a weight to the checkpoint's: a stream is looked up in a table, or projected from one number."""
    module, _, rest = name.partition(".")
    if module in STREAMS:
        index = STREAMS.index(module)
        table = f"decoder.embed_other_list.{index}.{rest}"
        return table if table in used else f"decoder.proj_other_list.{index}.{rest}"
    return f"decoder.project_out_dim.{rest}" if module == "project_out" else f"decoder.{name}"


def _prosody(
    task: Mapping[str, Any], used: UsedTensors, data: Mapping[str, Any], file: str | Path | None
) -> ProsodyConfig:
    """The streams' options from the task, their sizes from the weights."""
    delays = str(task.get("stream_shifts", "0,0")).split(",")
    if len(delays) != 2 or not all(delay.strip().isdecimal() for delay in delays):
        raise CheckpointError(f"stream_shifts: expected two delays, got {task.get('stream_shifts')!r}")
    discrete_f0 = bool(task.get("discrete_f0", False))
    n_f0_bins = int(data.get("f0_vq_n_units") or 32)
    if discrete_f0:
        n_f0_bins = used.shape("decoder.embed_other_list.1.weight")[0] - len(SPECIALS)
        _require_equal(data, "f0_vq_n_units", n_f0_bins, file)
    switches = ("log_f0", "normalize_f0_mean", "normalize_f0_std")
    log_f0, mean, std = (bool(task.get(name, False)) for name in switches)
    return ProsodyConfig(
        discrete_duration=bool(task.get("discrete_duration", False)),
        discrete_f0=discrete_f0,
        max_duration=int(task.get("max_token_duration", 20)),
        n_f0_bins=n_f0_bins,
        duration_input=not task.get("ignore_duration_input", False),
        f0_input=not task.get("ignore_f0_input", False),
        duration_delay=int(delays[0]),
        f0_delay=int(delays[1]),
        interpolate_f0=bool(task.get("interpolate_f0", False)),
        log_f0=log_f0,
        normalize_f0_mean=mean,
        normalize_f0_std=std,
        f0_edges=_f0_edges(data, file, n_f0_bins, log_f0, mean, std) if discrete_f0 else None,
    )


def _f0_edges(
    data: Mapping[str, Any], file: str | Path | None, n_bins: int, log: bool, mean: bool, std: bool
) -> tuple[float, ...] | None:
    """The borders of the F0 bins from the file that data_config.json names; None where that file is not there."""
    norm = "mean_std_norm" if mean and std else "mean_norm" if mean else "none_norm"
    named = (data.get("f0_vq_naive_quantizer") or {}).get(f"{'log' if log else 'linear'}_{norm}")
    if named is None or file is None:
        return None
    candidates = (Path(named), Path(file).parent / named, Path(file).parent / Path(named).name)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        return None
    tables = read_torch_file(found)
    edges = tables.get(n_bins) if isinstance(tables, dict) else None
    if edges is None or np.shape(edges) != (n_bins - 1,):
        raise CheckpointError(
            f"{found}: expected {n_bins - 1} borders of {n_bins} F0 bins; use the model's own file"
        )
    return tuple(float(edge) for edge in edges)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: expected pGSLM's data_config.json, got {error}; check the path"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected pGSLM's data_config.json, got no object; check the path")
    return data


def _require_equal(data: Mapping[str, Any], name: str, value: int, file: object) -> None:
    if data.get(name, value) != value:
        raise CheckpointError(
            f"{file}: expected {name} {value}, as the weights have, got {data[name]}; use this model's data_config"
        )
