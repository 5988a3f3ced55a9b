"""How an imported prompt was trained, as far as its checkpoint says and our settings have a name for it.

Source: the parts of fairseq's configuration (`optimization`, `optimizer`, `lr_scheduler`, `dataset`, `checkpoint`,
`common`), which old files hold in one flat Namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechprompt.train_config import TrainConfig
from units.errors import InputError


def training_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give fields of TrainConfig that a checkpoint's configuration states; what it does not state has no entry.

    config: `FairseqCheckpoint.config`. Empty for a file without settings, such as one that we exported.
    Left out are also no clipping, no limit of epochs or patience, schedules other than fairseq's `fixed`, and float16:
    TrainConfig has no value for these. Batches are those of one optimizer step, with all that it accumulated.
    """
    frequency = _said(config, "optimization", "update_freq")
    n_batches = 1 if frequency is None else _whole(_first(frequency))
    rows = _said(config, "dataset", "batch_size") or _said(config, "dataset", "max_sentences")
    tokens = _said(config, "dataset", "max_tokens")
    bf16, fp16 = (_said(config, "common", name) for name in ("bf16", "fp16"))
    scheduler = _said(config, "lr_scheduler", "_name") or _said(config, "lr_scheduler", "lr_scheduler")
    found: dict[str, Any] = {
        "lr": _first(_said(config, "optimization", "lr")),
        "betas": _numbers(_said(config, "optimizer", "adam_betas")),
        "clip": _said(config, "optimization", "clip_norm"),
        "schedule": "constant" if scheduler == "fixed" else None,
        "warmup_steps": _whole(_said(config, "lr_scheduler", "warmup_updates")),
        "batch_tokens": _product(_whole(tokens), n_batches),
        "batch_rows": _product(_whole(rows), n_batches),
        "max_epochs": _whole(_said(config, "optimization", "max_epoch")),
        "patience": _whole(_said(config, "checkpoint", "patience")),
        "label_smoothing": _said(config, "criterion", "label_smoothing"),
        "mixed_precision": "bf16" if bf16 is True else "no" if fp16 is False and bf16 is not None else None,
        "seed": _whole(_said(config, "common", "seed")),
    }
    return {name: value for name, value in found.items() if value is not None and _is_setting(name, value)}


def _said(config: Mapping[str, Any], part: str, name: str) -> Any:
    """A value of its part, or of the flat Namespace, which stands under "model"."""
    for place in (part, "model"):
        values = config.get(place)
        # "model" names the architecture in `_name`, which is no answer for another part
        if (
            isinstance(values, Mapping)
            and values.get(name) is not None
            and (place == part or name != "_name")
        ):
            return values[name]
    return None


def _first(values: Any) -> Any:
    """The value of every epoch where a list has only one; fairseq takes one per epoch."""
    if isinstance(values, list | tuple):
        return values[0] if values and all(value == values[0] for value in values) else None
    return values


def _numbers(text: Any) -> tuple[float, ...] | None:
    """Adam's moments, which fairseq keeps as text such as "(0.9, 0.98)"."""
    parts = text.strip("()[] ").split(",") if isinstance(text, str) else text
    try:
        return None if parts is None else tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _product(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one * other


def _is_setting(name: str, value: Any) -> bool:
    try:
        TrainConfig.from_dict({name: value})
    except (InputError, TypeError):
        return False
    return True
