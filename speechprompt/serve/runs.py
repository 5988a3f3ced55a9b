"""The runs that a server answers for: all on one language model, added and removed while it works.

Shapes: N separators, D model dimension.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechprompt.lm.cache import Prefix
from speechprompt.prompted import PromptedLM
from speechprompt.run import Run, load_run
from speechprompt.serve.errors import ServeError
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from units.containment import resolved_inside

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class ServedRun:
    """A run with what its prompt gives to every request, computed once.

    name: in requests. run: opened. prefix: keys and values of its prompt; None for one without any. separators_ND: what
    stands at each `<s>`. shares: whether its rows share a pass with rows of other runs; else it has passes of its own.
    """

    name: str
    run: Run
    prefix: Prefix | None
    separators_ND: Tensor
    shares: bool

    @classmethod
    def of(cls, name: str, run: Run) -> ServedRun:
        """Compute what a run's prompt gives, once and for all."""
        prompted = run.prompted.eval()
        with torch.no_grad():
            prefix = prompted.prompt.prefix(prompted.lm)
        return cls(name, run, prefix, prompted.separators.detach(), _shares(prompted))


def _shares(prompted: PromptedLM) -> bool:
    """Whether labels are read at separators, and the prompt is a prefix that every position attends to."""
    prompt = prompted.prompt
    return (
        type(prompted) is PromptedLM
        and prompt.kind in ("deep", "none")
        and not prompt.infix_length
        and prompted.pool == "separator"
    )


class Runs:
    """Served runs by name, in the order they were added; any thread may add, find and remove.

    Args:
        stack: name or folder of the stack; None for the one that the first run names.
        device, precision: with which the stack is loaded.
        root: the folder that runs asked for by clients must lie in; None where clients may add none.
    """

    def __init__(
        self,
        stack: str | None = None,
        *,
        device: str = "cpu",
        precision: str = "float32",
        root: str | Path | None = None,
    ) -> None:
        self._stack = load_stack(stack, device, precision=precision) if stack is not None else None
        self.device, self.precision = device, precision
        self.root = None if root is None else Path(root).resolve()
        self._by_name: dict[str, ServedRun] = {}
        self._lock = threading.Lock()  # of the table
        self._loading = threading.Lock()  # one run is opened at a time; the others go on answering

    @property
    def stack(self) -> Stack:
        """The stack of all runs. Raises ServeError before there is any."""
        if self._stack is None:
            raise ServeError(
                503, "server: expected a stack, got none yet; add a run, or start it with --stack"
            )
        return self._stack

    @property
    def stack_name(self) -> str:
        """Name of the stack, or empty before there is one."""
        return "" if self._stack is None else self._stack.name

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[ServedRun]:
        with self._lock:
            return iter(list(self._by_name.values()))

    def get(self, name: str) -> ServedRun:
        """Raises ServeError (404) for a run that is not there."""
        with self._lock:
            served = self._by_name.get(name)
        if served is None:
            raise ServeError(
                404, f"run: expected the name of a run that is served, got {name!r}; GET /runs lists them"
            )
        return served

    def add(self, folder: str | Path, name: str | None = None) -> ServedRun:
        """Open a run and answer for it from now on.

        name: the folder's own, where None. Raises: ServeError (409, 422) for a name that is taken or cannot be one;
        RunError, StackError, UnitSpecMismatch as `load_run`: no run, or one of another language model.
        """
        name = Path(folder).resolve().name if name is None else name
        if not _NAME.fullmatch(name):
            raise ServeError(
                422,
                f"run name: expected up to 100 letters, digits, dots, dashes and underlines, got {name[:100]!r}; "
                "choose another",
            )
        with self._loading:
            self._require_free(name)
            run = load_run(folder, stack=self._stack, device=self.device, precision=self.precision)
            served = ServedRun.of(name, run)
            with self._lock:
                self._stack = run.stack
                self._by_name[name] = served
        return served

    def add_from_root(self, path: str, name: str | None = None) -> ServedRun:
        """Open a run that a client asks for: `path` is relative to `root`, and does not lead out of it.

        Raises: as `add`; ServeError (403) where clients may add no runs, or not this one.
        """
        if self.root is None:
            raise ServeError(
                403,
                "runs: expected a server that lets clients add them, got one started without --runs-root; "
                "start it with the folder that runs may be added from",
            )
        folder = resolved_inside(self.root, self.root / path)
        if folder is None or folder == self.root:
            raise ServeError(
                403,
                f"run: expected a folder inside the server's --runs-root, got {path!r}; name one of those",
            )
        return self.add(folder, name)

    def remove(self, name: str) -> None:
        """Answer for it no longer; requests that were accepted before are still answered. Raises: as `get`."""
        self.get(name)
        with self._lock:
            self._by_name.pop(name, None)

    def _require_free(self, name: str) -> None:
        with self._lock:
            if name in self._by_name:
                raise ServeError(409, f"run name: expected one that is free, got {name!r}; choose another")
