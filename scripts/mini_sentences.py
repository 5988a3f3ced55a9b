"""Sentences of the domain of `mini` with their texts, to measure inpainting and continuation on.

    python -m scripts.mini_sentences --text DATA/text --out sentences

Lines of the texts, spoken by flite (a Debian package) in its four voices. Train: lines that the stack was trained on,
too. Valid and test: lines that no part of it has heard; by those of valid the weights of its language models were
chosen. Writes OUT/sentences.csv (path,id,speaker,split,label).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.mini.sentences import N_TRAIN, speak_sentences
from speechprompt.cli.boundary import guarded


def main(
    text: Annotated[Path, typer.Option(metavar="DIR", help="Folder of text files, a sentence a line.")],
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("sentences"),
    n_train: Annotated[int, typer.Option(min=1, help="Sentences to train on.")] = N_TRAIN,
) -> None:
    """Speak the sentences; continues where it was interrupted."""
    print(speak_sentences(text, out, n_train))


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
