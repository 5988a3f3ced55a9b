"""Sentences of the domain of `mini`, in splits: lines of the texts, spoken by flite."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import joblib
from rich.progress import track

from scripts.mini.synthesis import (
    FLITE_VOICES,
    N_CHECKED_LINES,
    Line,
    cast_voices,
    read_lines,
    speak,
)
from units.atomic import atomic_path

N_TRAIN = 1500
SEED = 2  # of lines and voices


def cast(text: Path, n_train: int) -> dict[str, list[Line]]:
    """Lines by split, each with a voice of flite's: the offline judge makes little of espeak-ng's."""
    held_out = read_lines(text, held_out=True)
    checked = {line.id for line in cast_voices(held_out, N_CHECKED_LINES, seed=0)}
    rng = random.Random(SEED)
    lines = {
        "train": rng.sample(read_lines(text, held_out=False), n_train),
        "valid": [line for line in held_out if line[0] in checked],
        "test": [line for line in held_out if line[0] not in checked],
    }
    return {
        split: [Line(name, words, "flite", rng.choice(FLITE_VOICES)) for name, words in of_split]
        for split, of_split in lines.items()
    }


def speak_sentences(text: Path, out: Path, n_train: int) -> Path:
    """Speak the sentences into a folder, continuing where that was interrupted; gives its table."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, lines in cast(text, n_train).items():
        jobs = (joblib.delayed(speak)(line, out) for line in lines)
        spoken = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
        told = track(spoken, f"speaking {split}", total=len(lines))
        rows += [
            [path, line.id, speaker, split, label]
            for line, (path, speaker, label, _) in zip(lines, told, strict=True)
        ]
    table = out / "sentences.csv"
    with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "id", "speaker", "split", "label"])
        writer.writerows(rows)
    return table
