"""Modules without values: to be filled from a file, or asked for the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = ("normal_", "uniform_")  # how the names of what draws end, of tensors' methods and of torch.nn.init


@contextmanager
def weightless() -> Iterator[None]:
    """Modules made within have tensors without memory (device meta), and no initial values are drawn for them.

    Values drawn only to be overwritten take most of the time of loading a large model; and torch, asked to draw where
    there is no memory, imports its compiler first, which takes longer than loading a small one.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """What would draw values into a tensor gives it back as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").endswith(_DRAWS):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
