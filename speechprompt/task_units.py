"""The units of a task's recordings: quantized once, then read from a cache folder.

The cache lies in $SPEECHPROMPT_CACHE, or ~/.cache/speechprompt. Each entry is a UnitStore, with F0 or without, named by
a hash of the UnitSpec, the view and the list of files with their sizes and times of change: a changed recording or
another codebook never finds an old entry. Anything in it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from speechprompt.batch import LabelledUnits
from speechprompt.cache_folder import cache_folder
from speechprompt.stack import Stack
from speechprompt.views import AS_IS, View, offset_views, view_quantizer
from tasks.base import Task, Utterance
from units.corpus import CorpusEntry, quantize_corpus
from units.errors import AudioError, InputError
from units.store import UnitStore
from units.types import Quantizer

_LONGEST_QUANTIZATION = timedelta(days=2)  # that the other processes wait for
_FORMAT = 1  # part of every cache key: raise it when the meaning of an entry changes


def labelled_units(
    task: Task,
    split: str,
    stack: Stack,
    *,
    views: Sequence[View] = (AS_IS,),
    prosody: bool = True,
    progress: bool = False,
) -> list[LabelledUnits]:
    """Give a split's rows, as the LM reads them, with label indices: all utterances in one view, then in the next.

    prosody: False for units alone, whatever the LM reads.
    Raises: AudioError for recordings that cannot be used; InputError for an unknown split, a task without labels, or as
    `rows_as_read`.
    """
    if task.kind != "classification":
        raise InputError(
            f"{task.name}: expected a classification task, got one of kind {task.kind}; choose another"
        )
    utterances = task.utterances(split)
    drawn_from = task.drawn_from.get(split, utterances)
    index_of = {label: index for index, label in enumerate(task.labels)}
    quantize = rows_as_read if prosody else quantize_utterances
    rows = []
    for view in views:
        units = quantize(drawn_from, stack, view=view, progress=progress)
        units_of = {utterance.id: row for utterance, row in zip(drawn_from, units, strict=True)}
        rows += [LabelledUnits(units_of[u.id], index_of[u.target]) for u in utterances]
    return rows


def views_of(
    utterances: Sequence[Utterance], n_offsets: int, speeds: Sequence[float] = ()
) -> tuple[View, ...]:
    """The views of recordings, see `offset_views`; rows that are given as units have one only."""
    heard = any(utterance.units is None for utterance in utterances)
    return offset_views(n_offsets, speeds or (1.0,)) if heard else (AS_IS,)


def quantize_utterances(
    utterances: Sequence[Utterance],
    stack: Stack,
    *,
    view: View = AS_IS,
    deduplicate: bool | None = None,
    progress: bool = False,
) -> list[np.ndarray]:
    """Give the units (T,) int64 of each utterance, in order, from the cache where they are there.

    They are deduplicated as `deduplicate` says, or where that is None, the stack. Utterances that carry units keep them
    (whatever the view). Raises AudioError naming the recordings that cannot be used.
    """
    recordings = [utterance for utterance in utterances if utterance.units is None]
    runs_as_one = stack.deduplicate if deduplicate is None else deduplicate
    units_of = _cached_rows(recordings, stack, view, runs_as_one, False, progress)
    return [
        units_of[utterance.id]
        if utterance.units is None
        else stack.as_read(utterance.units, deduplicate=runs_as_one)
        for utterance in utterances
    ]


def rows_as_read(
    utterances: Sequence[Utterance], stack: Stack, *, view: View = AS_IS, progress: bool = False
) -> list[np.ndarray]:
    """Give each utterance as the LM reads it (`speechprompt.read_rows`), in order: with prosody where it reads that.

    Raises as `quantize_utterances`; InputError where it reads prosody, for utterances that carry units, whose prosody
    is not known, or as `Stack.reads_prosody`.
    """
    if not stack.reads_prosody:
        return quantize_utterances(utterances, stack, view=view, progress=progress)
    bare = next((utterance for utterance in utterances if utterance.units is not None), None)
    if bare is not None:
        raise InputError(
            f"utterance {bare.id}: expected a recording, because the language model of stack {stack.name} reads "
            "durations and F0, got units alone; give the task's audio, or use a stack whose language model reads units"
        )
    row_of = _cached_rows(utterances, stack, view, stack.deduplicate, True, progress)
    return [row_of[utterance.id] for utterance in utterances]


def _cached_rows(
    recordings: Sequence[Utterance], stack: Stack, view: View, deduplicate: bool, f0: bool, progress: bool
) -> dict[str, np.ndarray]:
    """Rows of recordings by id; with `f0`, which is measured as the view hears them, as `Stack.as_read` has them."""
    if not recordings:
        return {}
    entries = [
        CorpusEntry(
            id=utterance.id, path=path_of(utterance), start_s=utterance.start_s, end_s=utterance.end_s
        )
        for utterance in recordings
    ]
    folder = cache_folder() / "units" / cache_key(entries, stack, view, deduplicate=deduplicate, f0=f0)
    store = read_if_whole(folder, len(entries))
    if store is None:
        with only_writer(folder):
            store = read_if_whole(folder, len(entries))  # whoever held the lock may have made it
            if store is None:
                make_quantizer = partial(_quantizer_for, stack, view, f0)
                _quantize_into(folder, entries, make_quantizer, deduplicate, progress)
                store = UnitStore(folder)
    return {row.id: stack.as_read(store.sequence(row), deduplicate=deduplicate) for row in store.rows()}


def one_process_first(stack: Stack) -> AbstractContextManager[None]:
    """Let the main process go first while the others wait: they then find what it left."""
    from accelerate import PartialState  # takes a second to import

    waiting: AbstractContextManager[None] = PartialState(
        cpu=stack.device == "cpu", timeout=_LONGEST_QUANTIZATION
    ).main_process_first()
    return waiting


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Let one process at a time make a cache entry; the others wait and find it."""
    with _writable(folder):
        locks = cache_folder() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{folder.name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"{folder}: expected a folder that can be written, got {error.strerror}; set SPEECHPROMPT_CACHE to another"
        ) from error


def read_if_whole(folder: Path, n_rows: int) -> UnitStore | None:
    """Open a finished cache entry; None where there is none, or some files failed. Loads no model."""
    try:
        store = UnitStore(folder)
    except InputError:
        return None
    return store if len(store) == n_rows else None


def _quantize_into(
    folder: Path,
    entries: Sequence[CorpusEntry],
    make_quantizer: Callable[[], Quantizer],
    deduplicate: bool,
    progress: bool,
) -> None:
    with _writable(folder):
        result = quantize_corpus(entries, make_quantizer, folder, deduplicate=deduplicate, progress=progress)
    if result.failures:
        path, reason = result.failures[0]
        more = (
            f" (and {len(result.failures) - 1} more of {len(entries)} files)"
            if len(result.failures) > 1
            else ""
        )
        raise AudioError(reason + more if path in reason else f"{path}: {reason}{more}")


def cache_key(
    entries: Sequence[CorpusEntry],
    stack: Stack,
    view: View,
    *,
    deduplicate: bool = True,
    f0: bool = False,
) -> str:
    """Name a cache entry: sha256, first 24 hex digits, of the arguments and each file's id, path, size and time.

    Of a segment also its start and end, of a stack its units and its precision. Raises AudioError for a missing file.
    """
    files = []
    for entry in entries:
        try:
            status = entry.path.stat()
        except FileNotFoundError as error:
            raise AudioError(
                f"{entry.path}: expected an audio file, got no such file; check the path"
            ) from error
        segment = [] if entry.start_s is None and entry.end_s is None else [entry.start_s, entry.end_s]
        files.append([entry.id, str(entry.path.resolve()), status.st_size, status.st_mtime_ns, *segment])
    content = {"format": _FORMAT, "spec": stack.spec.to_dict(), "speed": view.speed, "files": files}
    content |= {} if stack.precision == "float32" else {"precision": stack.precision}
    content |= {} if deduplicate else {"deduplicate": False}  # entries from before there was a choice stay
    content |= {"offset": view.offset} if view.offset else {}
    content |= {"f0": True} if f0 else {}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _quantizer_for(stack: Stack, view: View, f0: bool) -> Quantizer:
    return view_quantizer(stack.quantizer, view, f0=f0)


def path_of(utterance: Utterance) -> Path:
    """The audio file of an utterance. Raises InputError where it has none."""
    if utterance.path is None:
        raise InputError(f"utterance {utterance.id}: expected audio or units, got neither; give it a path")
    return utterance.path
