"""Does resynthesis keep the message? Units and pitch of held-out sentences, and a prompt's accuracy on digits.

    python -m scripts.measure_resynthesis --data ../shared/data --run RUN --json

`--data` holds read_sentences_141 (its last 21 sentences are held out from the mini stack) and RUN is a prompt
trained on `spoken_digits`, as quickstart leaves it in DIR/run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.mini.corpus import held_out_sentences
from speechprompt.evaluation import predict
from speechprompt.run import Run, load_run
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from tasks.metrics.f0_error import F0Difference, f0_difference, f0_measures, speech_f0
from tasks.registry import get_task
from tasks.unit_error_rate import unit_error_rate
from units.audio import read_audio
from units.types import UnitSequence, Wave


def said_again(stack: Stack, sequences: Sequence[UnitSequence], speaker: str | None) -> list[Wave]:
    """The vocoder's rendering of each sequence, with its own durations and, where the vocoder reads it, its own F0."""
    return [stack.voice.speak(sequence, speaker) for sequence in sequences]


def sentences_kept(stack: Stack, paths: Sequence[Path], speaker: str | None, seed: int = 0) -> dict[str, Any]:
    """What the resynthesis of sentences keeps of their units and of their pitch, 95% intervals over sentences.

    Edits per unit between the originals' units and their resynthesis', and beside it what chance gives: each
    resynthesis against the next sentence's units. F0 error in cents and share of frames voiced in one alone.
    """
    meant = stack.quantize(list(paths), f0=stack.voice.needs_f0)
    waves = said_again(stack, meant, speaker)
    heard = stack.quantize(waves)
    n_units = np.asarray([len(sequence.units) for sequence in meant])
    edits, edits_by_chance = (
        np.asarray([unit_error_rate(h, m) for h, m in zip(order, meant, strict=True)]) * n_units
        for order in (heard, heard[1:] + heard[:1])
    )
    draws = np.random.default_rng(seed).integers(len(paths), size=(1000, len(paths)))
    rates = edits[draws].sum(1) / n_units[draws].sum(1)
    rate = stack.vocoder.sample_rate
    pitches = [
        pitch_kept(read_audio(path, rate), wave, rate) for path, wave in zip(paths, waves, strict=True)
    ]
    return {
        "unit_error_rate": float(edits.sum() / n_units.sum()),
        "interval_95": [float(bound) for bound in np.quantile(rates, [0.025, 0.975])],
        "chance": float(edits_by_chance.sum() / n_units.sum()),
        "n_sentences": len(paths),
        "n_frames": sum(sequence.n_frames for sequence in meant),
        **f0_measures(pitches, seed=seed),
    }


def pitch_kept(original: Wave, again: Wave, sample_rate: int) -> F0Difference:
    """Compare the pitch of two waves of about equal length, at equal times."""
    n_samples = min(len(original), len(again))
    return f0_difference(*(speech_f0(wave[:n_samples], sample_rate) for wave in (original, again)))


def digits_kept(run: Run, speaker: str | None) -> dict[str, float]:
    """Accuracy of one prompt on the digits' test clips and on their resynthesis, and the ratio."""
    utterances = get_task(
        run.record.task, None if run.record.data is None else Path(run.record.data)
    ).utterances("test")
    files = [utterance.path for utterance in utterances if utterance.path is not None]
    sequences = run.stack.quantize(files, f0=run.stack.voice.needs_f0)
    spoken = said_again(run.stack, sequences, speaker)
    accuracies = []
    for clips in (files, spoken):
        said = predict(run, clips)
        right = [p.label == u.target for p, u in zip(said, utterances, strict=True)]
        accuracies.append(float(np.mean(right)))
    return {"original": accuracies[0], "resynthesized": accuracies[1], "ratio": accuracies[1] / accuracies[0]}


def main(
    data: Annotated[Path, typer.Option(help="Folder with read_sentences_141.")],
    run: Annotated[Path | None, typer.Option(help="A run trained on spoken_digits.")] = None,
    stack: Annotated[str, typer.Option(help="Name or folder of the stack, without a run.")] = "mini",
    speaker: Annotated[
        str | None, typer.Option(help="Voice of the vocoder; its first one by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print how much of the message resynthesis keeps."""
    opened = None if run is None else load_run(run)
    figures: dict[str, Any] = {
        "read_sentences": sentences_kept(
            load_stack(stack) if opened is None else opened.stack, held_out_sentences(data), speaker
        )
    }
    if opened is not None:
        figures["digits"] = digits_kept(opened, speaker)
    if as_json:
        print(json.dumps(figures))
    else:
        for name, values in figures.items():
            print(name, values)


if __name__ == "__main__":
    typer.run(main)
