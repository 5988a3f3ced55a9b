r"""Filled gaps to hear and to look at, for docs/inpainting.md: sounds, one picture, and what a recogniser hears.

    python -m scripts.inpainting_examples --data sentences/sentences.csv --judge pocketsphinx --out docs/inpaintings

Recordings spread evenly over a split, each with the gap that evaluation gives it, filled by a run or by the prompt that
comes with the stack. Each becomes OUT/ID.ogg; OUT/inpaintings.png shows spectrograms and units, what was filled tinted,
drawn by the system's Chromium; printed is a Markdown table.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scripts.example_figures import write_picture
from speechprompt.cli.boundary import guarded
from speechprompt.cli.options import JudgeName
from speechprompt.generate.damaged import damaged_wave
from speechprompt.generate.inpainting import inpaint_speech
from speechprompt.generate.inpainting_run import TASK, InpaintingRun, load_inpainting_run
from speechprompt.generate.inpainting_training import HELD_OUT_VERSION
from speechprompt.judge import Judge, load_judge
from speechprompt.report.colours import unit_colours
from speechprompt.report.timeline import timeline_svg
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import path_of
from tasks.base import Utterance
from tasks.registry import get_task
from units.audio import write_audio
from units.errors import InputError
from units.types import UnitSequence, Wave


def main(
    data: Annotated[Path, typer.Option(metavar="ROOT", help="A folder of recordings, or a CSV of them.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Trained prompt; by default the stack's.")
    ] = None,
    stack: Annotated[str, typer.Option(metavar="NAME")] = "mini",
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    n: Annotated[int, typer.Option("--n", min=1, help="Recordings.")] = 10,
    judge: JudgeName = None,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("docs/inpaintings"),
    browser: Annotated[str, typer.Option(help="Chromium's command.")] = "chromium",
) -> None:
    """Fill gaps, and draw what came of it."""
    parts = load_stack(stack)
    folder = run or parts.shipped_prompt(TASK)
    if folder is None:
        raise InputError(f"stack {parts.name}: expected a prompt for inpainting, got none; give --run")
    opened = load_inpainting_run(folder, stack=parts)
    listener = None if judge is None else load_judge(judge)
    utterances = get_task(TASK, data).utterances(split)
    n = min(n, len(utterances))
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    for number in range(n):
        utterance = utterances[number * len(utterances) // n]
        example = filled_example(opened, utterance)
        sound = f"{Path(utterance.id).stem}.ogg"
        write_audio(out / sound, example.mended_N, parts.quantizer.sample_rate)
        caption = f"{sound}: {utterance.target or ''}"
        figures.append((caption, drawing(example, parts, caption)))
        told = in_words(example, utterance, parts, listener)
        print(f"| {' | '.join([f'[{sound}]({out.name}/{sound})', *told])} |", flush=True)
    write_picture(figures, out / "inpaintings.png", browser)
    print(out / "inpaintings.png")


@dataclass(frozen=True, eq=False)
class Example:
    """A recording (N,) float32 with a gap, and filled; units of every frame of the latter; the gaps in seconds."""

    broken_N: Wave
    mended_N: Wave
    units: UnitSequence
    gaps_s: list[tuple[float, float]]


def filled_example(run: InpaintingRun, utterance: Utterance) -> Example:
    """Damage a recording as evaluation does, and fill the gaps.

    Args:
        run: what fills, on its stack.
        utterance: the recording.
    """
    stack, rate = run.stack, run.stack.quantizer.sample_rate
    clean_N = stack.read(path_of(utterance))
    broken_N, spans = damaged_wave(clean_N, utterance.id, rate, run.config.corruption, HELD_OUT_VERSION)
    gaps_s = [(start / rate, stop / rate) for start, stop in spans]
    done = inpaint_speech(stack, run.inpainter(), clean_N, gaps_s)
    return Example(broken_N, done.recording.samples_NC[:, 0], done.units, gaps_s)


def drawing(example: Example, stack: Stack, caption: str) -> str:
    """Draw what was filled, as SVG.

    Args:
        example: what to draw.
        stack: whose units they are.
        caption: read aloud in place of the picture.
    """
    colours = unit_colours(stack.spec.n_units, stack.quantizer.centroids)
    return timeline_svg(
        example.mended_N,
        stack.quantizer.sample_rate,
        example.units,
        colours,
        description=caption,
        generated_s=example.gaps_s,
    )


def in_words(example: Example, utterance: Utterance, stack: Stack, judge: Judge | None) -> list[str]:
    """What is said, where the gaps are, and what a judge hears of the recording with gaps and filled.

    Args:
        example: what to hear.
        utterance: its recording.
        stack: that filled it.
        judge: None for nobody.
    """
    places = ", ".join(f"{start:.2f} to {stop:.2f}" for start, stop in example.gaps_s)
    waves = () if judge is None else (example.broken_N, example.mended_N)
    return [
        utterance.target or "",
        places,
        *(judge([w], stack.quantizer.sample_rate)[0] for w in waves if judge),
    ]


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
