"""Quantize a whole corpus: one shard per task, here or on a cluster, resumable after any kill.

A shard and the list of its failures are one file, written atomically: a shard that exists is complete and is never
made again, so that a job killed at any moment and started again ends in the same files as an undisturbed one. Shards
are claimed while they are made: the same job may be started several times at once, and its starts share the work.
"""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import joblib
from rich.console import Console
from rich.progress import track

from units.atomic import atomic_path, remove_torn
from units.claims import claimed, remove_claims
from units.cluster import CLUSTERS, WorkersLostError
from units.errors import InputError
from units.manifest import CorpusEntry, read_manifest
from units.shards import Failure, Recipe, make_shard, quantizer_of, read_failures
from units.store import PLAN_FILE, shard_path
from units.types import Quantizer
from units.workers import Run, workers

__all__ = ["FAILURES_FILE", "CorpusEntry", "CorpusResult", "quantize_corpus", "read_manifest"]

FAILURES_FILE = "failures.csv"
SHARD_SIZE = 256
_LOSSES = 3  # rounds in a row that may end with dead workers and without a new shard
_POLL_S = 0.5  # how often it is looked whether another process has made the shards that it claimed


@dataclass(frozen=True)
class CorpusResult:
    """What a corpus job did. n_done: utterances in the store. failures: (path, reason) in the order of the corpus."""

    n_done: int
    failures: list[Failure]


def quantize_corpus(
    entries: Sequence[CorpusEntry],
    make_quantizer: Callable[[], Quantizer],
    out: Path,
    *,
    deduplicate: bool = True,
    f0: bool = False,
    backend: str = "loky",
    address: str | None = None,
    n_workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    progress: bool = True,
) -> CorpusResult:
    """Quantize every entry into the unit store `out`, rows in the order of `entries`.

    Files that cannot be read are listed with their reason in the result and in `out/failures.csv`; the others are
    kept. Shards that exist in `out` are kept too, with their failures: to try repaired files again, remove `out`.
    Workers that die are replaced as long as shards get done. On a cluster, audio and `out` lie on a file system that
    all of its hosts share, under the same paths; relative ones are made absolute.

    make_quantizer: picklable; called once per worker process.
    deduplicate: collapse runs and store durations; else one unit per frame.
    f0: measure it as well, one value per frame (`units.pitch`).
    backend: any of joblib's ("loky", "threading", "ray", "dask", ...). address: of a Ray or Dask cluster.
    n_workers: tasks at once; -1 for all cores; None for one here, and for all that a cluster has.
    shard_size: entries per shard. progress: show a bar on standard error where that is a terminal.

    Raises InputError: no entries, ids that repeat, a backend or cluster that cannot be used, or an `out` that holds
    another job; WorkersLostError: workers died again and again.
    """
    repeated = _repeated(entry.id for entry in entries)
    if not entries or repeated is not None or shard_size < 1:
        got = (
            f"{len(entries)} entries by {shard_size}"
            if repeated is None
            else f"id {repeated!r} more than once"
        )
        raise InputError(
            f"corpus: expected entries with unique ids in shards of 1 or more, got {got}; check the list"
        )
    if backend in CLUSTERS:  # whose workers are in other folders
        entries, out = [replace(entry, path=entry.path.absolute()) for entry in entries], out.absolute()
    recipe = Recipe(pickle.dumps(make_quantizer), deduplicate, f0)
    _begin(out, entries, recipe, shard_size)
    shards = [shard_path(out, index) for index in range(-(-len(entries) // shard_size))]
    n_missing = sum(not shard.exists() for shard in shards)
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with workers(backend, address, n_workers) as run:
        made = _make_all(shards, entries, recipe, shard_size, run)
        for _ in track(made, "quantizing", total=n_missing, console=console, disable=hidden):
            pass
    failures = _finish(out, shards)
    return CorpusResult(len(entries) - len(failures), failures)


def _repeated(ids: Iterable[str]) -> str | None:
    """Give the first id that was there before."""
    seen: set[str] = set()
    return next((name for name in ids if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _begin(out: Path, entries: Sequence[CorpusEntry], recipe: Recipe, shard_size: int) -> None:
    """Write the job's plan into a new folder, or check that the folder's plan is this job's."""
    quantizer = quantizer_of(recipe.make_quantizer)
    plan = {
        "n_shards": -(-len(entries) // shard_size),
        "shard_size": shard_size,
        "deduplicate": recipe.deduplicate,
        "f0": recipe.f0,
        "entries_sha256": _digest(entries),
        "unit_spec": quantizer.spec.to_dict(),
        "precision": getattr(quantizer, "precision", "float32"),
    }
    file = out / PLAN_FILE
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(out.glob("part-*.parquet"))):
            raise InputError(
                f"{out}: expected a new folder, got something else of that name; choose another name"
            )
        with claimed(out, PLAN_FILE, wait=True):
            if not file.is_file():
                remove_torn(file)
                with atomic_path(file) as temporary:
                    temporary.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    older = {"f0": False, "precision": "float32"}  # what plans did not always say
    theirs = older | json.loads(file.read_text(encoding="utf-8"))
    differing = [key for key in plan if theirs.get(key) != plan[key]]
    if differing:
        raise InputError(
            f"{out}: expected a new folder or the same job, got a job with another {', '.join(differing)}; "
            "choose another folder or remove this one"
        )


def _digest(entries: Sequence[CorpusEntry]) -> str:
    """Hash the JSON list of all descriptions, which is never in memory as a whole."""
    digest = hashlib.sha256()
    for index, entry in enumerate(entries):
        digest.update(("[" if index == 0 else ", ").encode())
        digest.update(json.dumps(_description(entry)).encode())
    digest.update(b"]")
    return digest.hexdigest()


def _description(entry: CorpusEntry) -> list[str]:
    """What makes an entry another one, as text; times only where there are some: older plans have none."""
    *whole, start_s, end_s = astuple(entry)
    return [
        str(value) for value in (whole if start_s is None and end_s is None else [*whole, start_s, end_s])
    ]


def _make_all(
    shards: Sequence[Path], entries: Sequence[CorpusEntry], recipe: Recipe, shard_size: int, run: Run
) -> Iterator[None]:
    """Make the shards that are missing, whatever dies meanwhile; yields about once for each."""
    missing = [index for index, shard in enumerate(shards) if not shard.exists()]
    losses = 0
    while missing:
        tasks = (
            joblib.delayed(make_shard)(
                shards[index], entries[index * shard_size : (index + 1) * shard_size], recipe
            )
            for index in missing
        )
        lost: WorkersLostError | None = None
        try:
            yield from run(tasks)
        except WorkersLostError as error:
            lost = error
        left = [index for index in missing if not shards[index].exists()]
        losses = losses + 1 if lost is not None and left == missing else 0
        if lost is not None and losses == _LOSSES:
            raise lost
        if left and lost is None:  # claimed by another process, which may yet die
            time.sleep(_POLL_S)
        missing = left


def _finish(out: Path, shards: Sequence[Path]) -> list[Failure]:
    """List the failures of all shards in their file, and leave nothing beside the results."""
    failures = [failure for shard in shards for failure in read_failures(shard)]
    with claimed(out, FAILURES_FILE, wait=True):
        for torn in out.glob(".tmp-*"):  # of workers killed in mid-write, whose shards others have made
            torn.unlink(missing_ok=True)
        with (
            atomic_path(out / FAILURES_FILE) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(["path", "reason"])
            writer.writerows(failures)
    remove_claims(out)
    return failures
