"""A language model of the units of `mini` that heard none of its speech: by it continuations are judged.

    python -m scripts.mini_held_out_lm --data DATA --build build/mini --out build/mini/held_out_lm

Of the dimensions of `mini`'s own, trained on every line of the texts in another reading (`train_mini_stack` makes the
same one for its unit mBART), best by spoken lines that neither has read. Resumable; half an hour on one core once the
lines are spoken and quantized.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from scripts.mini.denoiser import second_reading
from scripts.mini.language import UnitSequences, corpus_units, spoken_units, train_language_model
from scripts.mini.synthesis import N_CHECKED_LINES, synthesize
from speechprompt.cli.boundary import guarded
from speechprompt.stack_folder import load_stack

SEED = 1  # of first weights and batches; that of `mini` is 0


def main(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with text.")],
    build: Annotated[Path, typer.Option(help="Where speech and units are kept.")] = Path("build/mini"),
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("build/mini/held_out_lm"),
) -> None:
    """Train the language model; continues where it was interrupted."""
    quantizer = load_stack("mini").quantizer
    corpus, held_out = second_reading(data / "text", build), build / "speech_heldout"
    rows = corpus_units(corpus, quantizer, np.arange(len(corpus)), build / "units" / "again.npz")
    synthesize(data / "text", held_out, N_CHECKED_LINES, held_out=True)
    sequences = UnitSequences(rows, spoken_units(held_out, quantizer))
    result = train_language_model(sequences, quantizer.spec.n_units, out, seed=SEED)
    print(f"perplexity {result.perplexity:.2f}, unigram {result.unigram_perplexity:.2f}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
