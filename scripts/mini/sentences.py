"""Sentences of the domain of `mini`, in splits: lines of the texts, spoken by flite."""

from __future__ import annotations

import random
from pathlib import Path

import joblib

from scripts.mini.corpus import write_table
from scripts.mini.synthesis import (
    FLITE_VOICES,
    N_CHECKED_LINES,
    Line,
    cast_voices,
    on_all_cores,
    read_lines,
    speak,
)

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
        jobs = [joblib.delayed(speak)(line, out) for line in lines]
        spoken = on_all_cores(jobs, f"speaking {split}")
        rows += [
            [path, line.id, speaker, split, label]
            for line, (path, speaker, label, _) in zip(lines, spoken, strict=True)
        ]
    table = out / "sentences.csv"
    write_table(table, ["path", "id", "speaker", "split", "label"], rows)
    return table
