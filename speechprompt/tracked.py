"""A bar over what takes long, on standard error and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def tracked(items: Sequence[T], description: str, *, progress: bool) -> Iterable[T]:
    """Give the items one by one and show how many are done; the bar goes once all are."""
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    return track(items, description, console=console, transient=True, disable=hidden)
