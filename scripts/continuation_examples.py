"""Continuations to hear and to look at, for docs/continuation.md: sounds, and one picture of all of them.

    python -m scripts.continuation_examples a.flac b.flac --seed 0 --out docs/continuations

The first recording is continued with the seed, the second with the next one, and so on. Each becomes OUT/SEED.ogg;
OUT/continuations.png shows spectrograms and units, a line where the new part begins, drawn by the system's Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.example_figures import write_picture
from speechprompt.cli.boundary import guarded
from speechprompt.decode import SamplingConfig
from speechprompt.generate.continuation import continue_speech
from speechprompt.report.colours import unit_colours
from speechprompt.report.timeline import timeline_svg
from speechprompt.stack_folder import load_stack
from units.audio import write_audio


def main(
    audio: Annotated[list[Path], typer.Argument(help="Recordings, one for each example.")],
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("docs/continuations"),
    stack: Annotated[str, typer.Option(metavar="NAME")] = "mini",
    seed: Annotated[int, typer.Option(min=0, help="Of the first; the others follow it.")] = 0,
    seed_ratio: Annotated[float, typer.Option(help="Share of each that is heard.")] = 0.5,
    length_s: Annotated[float, typer.Option(help="Seconds of new speech.")] = 2.5,
    temperature: Annotated[float, typer.Option()] = 0.7,
    browser: Annotated[str, typer.Option(help="Chromium's command.")] = "chromium",
) -> None:
    """Continue recordings, and draw what came of it."""
    parts = load_stack(stack)
    colours = unit_colours(parts.spec.n_units, parts.quantizer.centroids)
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    for number, path in enumerate(audio, seed):
        sampling = SamplingConfig(temperature=temperature, seed=number)
        done = continue_speech(parts, path, seed_ratio=seed_ratio, length_s=length_s, sampling=sampling)
        write_audio(out / f"{number}.ogg", done.wave, done.sample_rate)
        caption = f"{number}.ogg: {path.stem}, seed {number}"
        drawing = timeline_svg(
            done.wave, done.sample_rate, done.units, colours, description=caption, boundary_s=done.boundary_s
        )
        figures.append((caption, drawing))
        print(out / f"{number}.ogg")
    write_picture(figures, out / "continuations.png", browser)
    print(out / "continuations.png")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
