"""Frame labels for synthetic speech: the phones that the synthesizers themselves say they spoke, and when.

Free supervision on speech that costs nothing, for sounds rather than words. Each synthesizer keeps its own
inventory, because their symbols do not mean the same sounds; a frame is only ever told apart from the other
phones of its own inventory.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus
from scripts.mini.targets import HOP, Targets, frame_starts
from units.atomic import atomic_path

RAREST = 5e-4  # of an inventory's frames; what is rarer stays unlabelled


@dataclass(frozen=True)
class Phones:
    """Labels, -1 where nothing is known; inventory_P: (n_phones,) int64, which inventory each phone belongs to."""

    targets: Targets
    inventory_P: np.ndarray


def plain_symbol(name: str) -> str:
    """Phone without diacritics, tones and syllable marks; length marks stay."""
    if name.startswith("("):  # a switch of language, spoken as nothing
        return ""
    letters = unicodedata.normalize("NFD", name)
    return "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Sk", "Po", "Nd"))


def frame_symbols(phones: list[tuple[str, float]], n_frames: int) -> list[str]:
    """Symbol at the middle of each 20 ms; ``phones`` are (name, second at which it begins)."""
    begins = np.asarray([begin for _, begin in phones])
    middles = (np.arange(n_frames) + 0.5) * HOP / SAMPLE_RATE
    at = np.clip(np.searchsorted(begins, middles, side="right") - 1, 0, None)
    names = [plain_symbol(name) for name, _ in phones]
    return [names[index] for index in at]


def label_phones(corpus: PackedCorpus, path: Path) -> Phones:
    """Label every frame of the synthetic clips, kept in ``path`` (npz) and read from there the next time."""
    starts = frame_starts(corpus.starts)
    if not path.exists():
        labels, inventory_P = _label(corpus, starts)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, labels=labels, inventory=inventory_P)
    stored = np.load(path)
    return Phones(Targets(stored["labels"], starts), stored["inventory"])


def _label(corpus: PackedCorpus, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clips = [n for n, clip in enumerate(corpus.paths) if Path(clip).with_suffix(".json").exists()]
    spoken: dict[int, tuple[str, list[str]]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for clip in clips:
        described = json.loads(Path(corpus.paths[clip]).with_suffix(".json").read_text())
        symbols = frame_symbols(described["phones"], int(starts[clip + 1] - starts[clip]))
        spoken[clip] = described["inventory"], symbols
        counts.update((described["inventory"], symbol) for symbol in symbols)
    inventories = sorted({inventory for inventory, _ in counts})
    totals = {name: sum(n for (of, _), n in counts.items() if of == name) for name in inventories}
    kept = sorted(phone for phone, n in counts.items() if n >= RAREST * totals[phone[0]])
    index = {phone: number for number, phone in enumerate(kept)}
    labels = np.full(starts[-1], -1, dtype=np.int16)
    for clip, (inventory, symbols) in spoken.items():
        labels[starts[clip] : starts[clip + 1]] = [index.get((inventory, symbol), -1) for symbol in symbols]
    return labels, np.asarray([inventories.index(inventory) for inventory, _ in kept])
