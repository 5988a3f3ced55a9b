"""The first verb anyone types: quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Json, Seed, StackName


def quickstart(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to make; an earlier quickstart's is replaced.")
    ],
    stack: StackName = "mini",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train, measure and hear a prompt on bundled speech: a few minutes on two cores.

    Writes DIR/report.html to open in a browser, metrics.json, the sounds, and the trained run.

    Example: speechprompt quickstart --out quickstart
    """
    from speechprompt.quickstart import quickstart as run_quickstart

    metrics = run_quickstart(out, stack, seed=seed, progress=True)
    low, high = (100 * bound for bound in metrics["interval_95"])
    emit(
        metrics,
        f"prompt     {100 * metrics['accuracy']:.1f}% of {metrics['n']} held-out digits "
        f"(95% interval {low:.1f} to {high:.1f}), {metrics['trainable_parameters']:,} parameters trained\n"
        f"n-grams    {100 * metrics['baseline_ngram']:.1f}%, majority {100 * metrics['baseline_majority']:.1f}%\n"
        f"report     {out / 'report.html'}  ({metrics['seconds']:.0f} s)",
        as_json=as_json,
    )
