"""Opening fairseq checkpoints of every generation, safely and without fairseq, and using every tensor in them.

Source: the layout of fairseq's `checkpoint_utils`: weights under `model`; the configuration as an argparse Namespace
in `args` (until 2020), as omegaconf objects (to March 2021) or plain dicts in `cfg`, whose parts may be Namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from units.errors import InputError
from units.safe_pickle import read_torch_file
from units.torch_storage import forget_pages

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class CheckpointError(InputError):
    """A checkpoint that can be read but is not of the kind wanted, or whose tensors are not all as expected."""


@dataclass(frozen=True, eq=False)
class FairseqCheckpoint:
    """A checkpoint as read.

    path: the file. model: the state dict, tensors as stored (mapped from the file); tied names share memory.
    config: dicts by part, "model" and "task" always among them (empty where the file has none).
    task_state: what the task saved, such as HuBERT's label dictionaries.
    """

    path: Path
    model: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    task_state: dict[str, Any] = field(default_factory=dict)


def read_fairseq(path: str | Path) -> FairseqCheckpoint:
    """Open a fairseq checkpoint. Raises InputError: missing, unsafe or damaged; CheckpointError: not fairseq's."""
    path = Path(path)
    return as_fairseq(read_torch_file(path), path)


def as_fairseq(content: Any, path: Path) -> FairseqCheckpoint:
    """Arrange what `read_torch_file` gave for `path`. Raises CheckpointError where it is not fairseq's layout."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(tensor, Tensor) for tensor in model.values()):
        keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: expected a fairseq checkpoint with its tensors in `model`, got {keys}"
        )
    task_state = content.get("task_state")
    return FairseqCheckpoint(
        path=path,
        model=model,
        config=_config(content),
        task_state=task_state if isinstance(task_state, dict) else {},
    )


def _config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of `cfg`, or the flat Namespace under both "model" and "task", each with its name in `_name`."""
    args = content.get("args") if isinstance(content.get("args"), dict) else None
    config = dict(content["cfg"]) if isinstance(content.get("cfg"), dict) else {}
    for part, name in (("model", "arch"), ("task", "task")):
        found = config.get(part)
        if not isinstance(found, dict):
            found = {} if args is None else {**args}
        found = {key: _resolved(value, config) for key, value in found.items()}
        config[part] = {**found, "_name": found.get("_name") or found.get(name)}
    return config


def _resolved(value: Any, config: Mapping[str, Any]) -> Any:
    """A setting, or the one that it refers to as omegaconf's `${task.normalize}`; None where there is none."""
    for _ in range(8):
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            return value
        value = config
        for key in reference[1].split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    return None


class UsedTensors:
    """Hands out a checkpoint's tensors and keeps account: in the end none may be left over.

    Args:
        tensors: the state dict. what: the file, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], what: str | Path) -> None:
        self._tensors, self._what = dict(tensors), what
        self._used: set[str] = set()
        self._ignored: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self, prefix: str = "") -> list[str]:
        """Names that begin with `prefix`, in the order of the file."""
        return [name for name in self._tensors if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, which is not counted as used by this. Raises CheckpointError where it is missing."""
        return tuple(self._get(name).shape)

    def take(self, name: str, shape: Sequence[int] | None = None) -> Tensor:
        """Give a tensor; half precision becomes float32. Raises CheckpointError: missing, or of another shape."""
        tensor = self._get(name)
        if shape is not None and tuple(tensor.shape) != tuple(shape):
            raise CheckpointError(
                f"{self._what}: expected {name} of shape {tuple(shape)}, got {tuple(tensor.shape)}; is the "
                "configuration, or the dictionary, that of another model?"
            )
        self._used.add(name)
        if tensor.dtype not in (torch.float16, torch.bfloat16):
            return tensor
        converted = tensor.float()
        forget_pages(tensor)  # or the model would be in memory in both precisions
        return converted

    def ignored(self, name: str, reason: str) -> None:
        """Leave a tensor out, saying why; nothing happens where the file has none of that name."""
        if name in self._tensors:
            self._ignored[name] = reason

    def ignored_prefix(self, prefix: str, reason: str) -> None:
        """Leave out all tensors whose names begin with `prefix`."""
        for name in self.names(prefix):
            self.ignored(name, reason)

    def finish(self) -> dict[str, str]:
        """Give the ignored names with their reasons. Raises CheckpointError where tensors are left over."""
        left = [name for name in self._tensors if name not in self._used and name not in self._ignored]
        if left:
            raise CheckpointError(
                f"{self._what}: expected a use for every tensor, got {len(left)} that this kind of model does not know "
                f"({', '.join(left[:4])}{', ...' if len(left) > 4 else ''}); nothing was converted"
            )
        return dict(self._ignored)

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            near = ", ".join(self.names(name.rsplit(".", 1)[0])[:3]) or "none like it"
            raise CheckpointError(
                f"{self._what}: expected the tensor {name}, got {near}; is it another kind of model?"
            )
        return self._tensors[name]
