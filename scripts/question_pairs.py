"""Statements and questions of the same words: what tells them apart is intonation alone.

    python -m scripts.question_pairs --text DATA/text --out questions

Short lines of the texts are spoken by espeak-ng (a Debian package), each twice in one voice at one rate and pitch: once
with a full stop, once with a question mark, which raises the voice at the end. Words of valid and test are none of
training's lines, and so are the voices of test. Writes OUT/questions.csv (path,label,speaker,split) for the task
csv_classification.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import joblib
import typer

from scripts.mini.corpus import write_table
from scripts.mini.synthesis import ESPEAK_ENGLISH, Line, on_all_cores, read_lines, speak
from speechprompt.cli.boundary import guarded

SHARES = {"train": 600, "valid": 100, "test": 200}  # pairs
TEST_VARIANTS = ("m7", "f5", "Michael")  # of every accent
MIN_WORDS, MAX_WORDS = 3, 8
ENDS = {"statement": ".", "question": "?"}


@dataclass(frozen=True)
class Pair:
    """Words without a mark at their end, and who says them."""

    name: str
    words: str
    voice: str
    split: str


def draw_pairs(text: Path, seed: int = 0) -> list[Pair]:
    """Lines of `MIN_WORDS` to `MAX_WORDS` words without marks inside, each in one split, with a voice of that split."""
    rng = random.Random(seed)
    plain: dict[str, tuple[str, str]] = {}
    for name, line in read_lines(text, held_out=False):
        words = line.strip(" \"'.!?;:,-")
        if MIN_WORDS <= len(words.split()) <= MAX_WORDS and words.replace(" ", "").replace("'", "").isalpha():
            plain.setdefault(words.lower(), (name, words))
    drawn = iter(rng.sample(sorted(plain.values()), sum(SHARES.values())))
    pairs = []
    for split, n_pairs in SHARES.items():
        voices = [v for v in ESPEAK_ENGLISH if (v.split("+")[1] in TEST_VARIANTS) == (split == "test")]
        for _ in range(n_pairs):
            name, words = next(drawn)
            pairs.append(Pair(name, words, rng.choice(voices), split))
    return pairs


def speak_pair(pair: Pair, out: Path) -> list[list[str]]:
    """Both recordings of a pair; rows of the table."""
    rows = []
    for label, end in ENDS.items():
        # The name draws rate and pitch, so both must share it: they lie in folders of their own.
        folder = out / label
        folder.mkdir(parents=True, exist_ok=True)
        path, speaker, _, _ = speak(Line(pair.name, pair.words + end, "espeak-ng", pair.voice), folder)
        rows.append([f"{label}/{path}", label, speaker, pair.split])
    return rows


def main(
    text: Annotated[Path, typer.Option(metavar="DIR", help="Folder of text files, a sentence a line.")],
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("questions"),
    seed: Annotated[int, typer.Option(help="Of lines and voices.")] = 0,
) -> None:
    """Speak the pairs; continues where it was interrupted."""
    pairs = draw_pairs(text, seed)
    jobs = [joblib.delayed(speak_pair)(pair, out) for pair in pairs]
    rows = [row for both in on_all_cores(jobs, "speaking") for row in both]
    write_table(out / "questions.csv", ["path", "label", "speaker", "split"], rows)
    print(f"{out / 'questions.csv'}: {len(rows):,} recordings")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
