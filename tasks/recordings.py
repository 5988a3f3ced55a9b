"""Any recordings, in splits, for tasks whose targets are the recordings themselves.

The root is a folder of recordings (WAV, FLAC, OGG, MP3, in any folders below it) or a CSV with a column path and, where
known, id, speaker, split, and label: what is said, which a judge's hearing is compared with. Without splits a tenth
each is drawn for valid and test, seeded; without a valid split a tenth of train.
"""

from __future__ import annotations

from pathlib import Path

from tasks.base import ManifestError, Task, Utterance
from tasks.drawn_splits import no_groups, split_off
from units.corpus import CorpusEntry, read_manifest
from units.errors import InputError

SHARE = 0.1  # of the recordings, for valid and for test
_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}
_SPLITS = ("train", "valid", "test")


def recordings_task(name: str, metrics: tuple[str, ...], root: Path | None) -> Task:
    """The task of a folder or a CSV, under this name and with these metrics.

    Raises InputError: no root, a CSV that cannot be read; ManifestError: fewer than three recordings, an unknown split.
    """
    if root is None:
        raise InputError(f"{name}: expected a folder of recordings or a CSV, got none; give it with --data")
    root = Path(root)
    if root.is_dir():
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
        entries = [CorpusEntry(path.relative_to(root).as_posix(), path) for path in files]
    elif root.is_file():
        entries = list(read_manifest(root))
    else:
        raise ManifestError(
            f"{root}: expected a folder of recordings or a CSV, got nothing there; check the path"
        )
    splits = _splits(root, entries)
    return Task(name, "generation", (), splits, metrics, root=root)


def _splits(root: Path, entries: list[CorpusEntry]) -> dict[str, list[Utterance]]:
    if len(entries) < len(_SPLITS):
        raise ManifestError(
            f"{root}: expected at least {len(_SPLITS)} recordings, got {len(entries)}; add recordings "
            f"({', '.join(sorted(_SUFFIXES))})"
        )
    odd = next((entry for entry in entries if entry.split is not None and entry.split not in _SPLITS), None)
    if odd is not None:
        raise ManifestError(
            f"{root}: expected a split out of {', '.join(_SPLITS)}, got {odd.split!r} of {odd.id}; mend that column"
        )
    if all(entry.split is None for entry in entries):
        rest, test = split_off([_utterance(entry) for entry in entries], SHARE, by=no_groups)
        train, valid = split_off(rest, SHARE * len(entries) / len(rest), by=no_groups, seed=1)
        return {"train": train, "valid": valid, "test": test}
    splits = {
        split: [_utterance(entry) for entry in entries if (entry.split or "train") == split]
        for split in _SPLITS
    }
    if not splits["valid"] and len(splits["train"]) > 1:
        splits["train"], splits["valid"] = split_off(splits["train"], SHARE, by=no_groups)
    if not (splits["train"] and splits["valid"]):
        raise ManifestError(
            f"{root}: expected two recordings or more to train on, got {len(splits['train'])}; mend the column split"
        )
    return splits


def _utterance(entry: CorpusEntry) -> Utterance:
    return Utterance(
        id=entry.id,
        target=entry.label or "",
        path=entry.path,
        speaker=entry.speaker,
        start_s=entry.start_s,
        end_s=entry.end_s,
    )
