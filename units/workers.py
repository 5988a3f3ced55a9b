"""Where the tasks of a corpus are done: in this process, in processes beside it, or by the workers of a cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import joblib

from units.cluster import CLUSTERS, WorkersLostError, joined
from units.errors import InputError

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # as joblib.delayed makes it
Run = Callable[[Iterator[Task]], Iterator[Any]]

_LOOK_S = 1.0  # between two looks of a worker after the process that started it


@contextmanager
def workers(backend: str, address: str | None = None, n_workers: int | None = None) -> Iterator[Run]:
    """Give a function that does tasks and yields what they return, each as soon as it is done where that can be told.

    Tasks are taken from the iterator as workers become free, so that it may be longer than memory.

    backend: any of joblib's; "loky" with one worker works in this process. address: of a Ray or Dask cluster.
    n_workers: tasks at once; -1 for all cores; None for one here, and for all that a cluster has.
    Raises InputError: a backend that cannot be used; the function raises WorkersLostError where workers died.
    """
    if address is not None and backend not in CLUSTERS:
        raise InputError(
            f"address: expected a backend that has one ({' or '.join(CLUSTERS)}), got {backend!r}; name the backend too"
        )
    if backend in CLUSTERS:
        with joined(backend, address) as cluster:
            n_cores = cluster.effective_n_jobs(None)
            limited = n_workers is not None and n_workers > 0
            at_once = n_workers if limited else 2 * n_cores  # the next one waits where the last one is done
            yield lambda tasks: _on_joblib(tasks, backend=cluster, n_jobs=n_cores, pre_dispatch=at_once)
    elif backend == "loky" and n_workers in (None, 1):
        yield _here
    else:
        watch = {"initializer": _end_with, "initargs": (os.getpid(),)} if backend == "loky" else {}
        yield lambda tasks: _on_joblib(tasks, backend=backend, settings=watch, n_jobs=n_workers or 1)


def _end_with(parent: int) -> None:
    """In a worker: end soon after the process that started it, be it killed; else it waits for five idle minutes."""

    def watch() -> None:
        while os.getppid() == parent:  # on Windows always
            time.sleep(_LOOK_S)
        os._exit(1)  # what it was making has a temporary name

    threading.Thread(target=watch, daemon=True).start()


def _here(tasks: Iterator[Task]) -> Iterator[Any]:
    """A process of its own would load the encoder once more."""
    for function, arguments, keywords in tasks:
        yield function(*arguments, **keywords)


def _on_joblib(
    tasks: Iterator[Task], *, backend: Any, settings: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[Any]:
    try:
        configuration = joblib.parallel_config(backend=backend, **(settings or {}))
    except ValueError as error:  # of a name that joblib does not know
        raise InputError(
            f"backend: expected one that joblib can use here, got {backend!r} ({error})"
        ) from error
    with configuration:
        active, _ = joblib.parallel.get_active_backend()
        streaming = active.supports_return_generator
        parallel = joblib.Parallel(return_as="generator_unordered" if streaming else "list", **options)
        try:
            yield from parallel(tasks)
        except BrokenProcessPool as error:
            raise WorkersLostError(
                f"backend {backend}: expected workers that stay, got one that was killed, for want of memory perhaps; "
                "what is done is kept: give the same command again, with fewer workers"
            ) from error
