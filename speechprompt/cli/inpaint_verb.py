"""The verb inpaint, and what train and evaluate do for the task inpainting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import (
    AudioFile,
    Candidates,
    CandidatesTemperature,
    Device,
    GapBeam,
    Json,
    Seed,
)
from speechprompt.cli.trained import emit_trained

if TYPE_CHECKING:
    from speechprompt.generate.inpainter import Inpainter
    from speechprompt.seq2seq.decoding import WritingConfig
    from speechprompt.stack import Stack


def inpaint(
    audio: AudioFile,
    start_s: Annotated[float, typer.Option(metavar="SECONDS", help="Where the gap begins.")],
    end_s: Annotated[float, typer.Option(metavar="SECONDS", help="Where it ends.")],
    out: Annotated[Path, typer.Option(metavar="WAV", help="File to write: .wav or .flac.")],
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Trained prompt; by default the stack's.", show_default=False),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="By default the run's, without a run mini.", show_default=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="The language model without a prompt.")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Speak everything anew, not the gap alone.")] = False,
    candidates: Candidates = None,
    temperature: CandidatesTemperature = None,
    beam: GapBeam = None,
    speaker: Annotated[
        str | None, typer.Option(help="A voice of the vocoder; by default the most like the recording's.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Fill a gap in a recording with what belongs there; every sample outside the gap stays as it is.

    Example: speechprompt inpaint sentence.wav --start-s 1.2 --end-s 1.8 --run runs/inpainting --out mended.wav
    """
    from speechprompt.generate.filling import filling_by
    from speechprompt.generate.inpainting import inpaint_speech
    from units.recording import write_recording

    writing = filling_by(beam=beam, candidates=candidates, temperature=temperature, seed=seed)
    parts, inpainter = _chosen(run, stack, plain, writing, device)
    result = inpaint_speech(parts, inpainter, audio, [(start_s, end_s)], whole=whole, speaker=speaker)
    write_recording(out, result.recording)
    [(first, last)] = result.regions
    filling = result.units.units[first:last].tolist()
    emit(
        {
            "out": str(out),
            "start_s": start_s,
            "end_s": end_s,
            "units": filling,
            "whole": whole,
            "sample_rate": result.recording.sample_rate,
        },
        f"{out}: {end_s - start_s:.2f} s filled from {start_s:.2f} s on"
        + (", all of it spoken anew" if whole else ""),
        as_json=as_json,
    )


def _chosen(
    run: Path | None, stack: str | None, plain: bool, writing: WritingConfig, device: str
) -> tuple[Stack, Inpainter]:
    """The stack, and what fills gaps: a run, the stack's own prompt, or the plain language model."""
    from speechprompt.generate.inpainter import InpaintingConfig
    from speechprompt.generate.inpainting_run import TASK, load_inpainting_run, plain_inpainter
    from speechprompt.stack_folder import load_stack
    from units.errors import InputError

    if run is not None and plain:
        raise InputError("inpaint: expected --run or --plain, got both; leave one out")
    if run is not None:
        opened = load_inpainting_run(run, stack=stack, device=device)
        return opened.stack, opened.inpainter(writing)
    parts = load_stack(stack or "mini", device)
    if plain:
        return parts, plain_inpainter(parts, InpaintingConfig(masked=True), writing)
    shipped = parts.shipped_prompt(TASK)
    if shipped is None:
        raise InputError(
            f"stack {parts.name}: expected a prompt for inpainting that comes with it, got none; train one with "
            "speechprompt train --task inpainting and give it with --run, or use --plain"
        )
    return parts, load_inpainting_run(shipped, stack=parts).inpainter(writing)


def train_inpainting(
    out: Path,
    data: Path | None,
    stack: str,
    *,
    prompt: Mapping[str, Any],
    corruption: Mapping[str, Any],
    masked: bool,
    training: Mapping[str, Any],
    device: str,
    as_json: bool,
) -> None:
    """What `train` does for this task; `training`: settings that differ from `TRAINING`."""
    from dataclasses import replace

    from speechprompt.generate.corruption import CorruptionConfig
    from speechprompt.generate.inpainter import InpaintingConfig
    from speechprompt.generate.inpainting_training import train_inpainting as train_run
    from speechprompt.generate.pair_training import TRAINING
    from speechprompt.seq2seq.config import Seq2SeqPromptConfig

    config = replace(TRAINING, **training)
    run = train_run(
        stack=stack,
        out=out,
        data=data,
        prompt=Seq2SeqPromptConfig(**prompt, seed=config.seed),
        config=InpaintingConfig(CorruptionConfig(**corruption), masked=masked),
        training=config,
        device=device,
        progress=True,
    )
    accuracy = run.record.metrics["valid"]["gap_accuracy"]
    measured = f"{100 * accuracy:.1f}% of the validation gaps' units, each after the true ones,"
    emit_trained(run.folder, run.record, len(run.history), measured, as_json=as_json)


def evaluate_inpainting(
    run: Path, split: str, data: Path | None, *, beam: int, judge: str | None, device: str, as_json: bool
) -> None:
    """What `evaluate` does for a run of this task."""
    from speechprompt.generate.filling import filling_by
    from speechprompt.generate.inpainting_evaluation import evaluate_inpainting as evaluate_run
    from speechprompt.generate.measured_gaps import in_words
    from speechprompt.judge import load_judge

    measures = evaluate_run(
        run,
        split,
        data=data,
        writing=filling_by(beam=beam if beam > 1 else None),
        judge=None if judge is None else load_judge(judge, device=device),
        device=device,
        progress=True,
    )
    emit(
        measures,
        f"{run}, {split}: {', '.join(in_words(measures))}, {measures['n']:,} recordings",
        as_json=as_json,
    )
