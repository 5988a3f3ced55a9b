"""The verb continue, and what train and evaluate do for the task continuation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import AudioFile, Json, Precision, Seed
from speechprompt.cli.trained import emit_trained


def continue_(
    audio: AudioFile,
    out: Annotated[
        Path, typer.Option(metavar="WAV", help="File to write: .wav, .flac or .ogg; with --stream .wav or -.")
    ],
    seed_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="How much of AUDIO to hear first.  [default: 2.0]", show_default=False
        ),
    ] = None,
    seed_ratio: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="The same as a share of it: 0.25, 0.5, 0.75.", show_default=False),
    ] = None,
    length_s: Annotated[float, typer.Option(metavar="SECONDS", help="How much new speech to add.")] = 4.0,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A prompt trained to continue; without it the plain model.",
            show_default=False,
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="By default the run's, without a run mini.", show_default=False),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Below 1: more likely units; above: bolder.")] = 0.7,
    top_k: Annotated[int, typer.Option(help="Sample among so many likeliest units; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample among units of this total probability.")] = 1.0,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest unit.")] = False,
    duration_temperature: Annotated[
        float | None, typer.Option(min=0, help="pGSLM: of durations.", show_default=False)
    ] = None,
    f0_temperature: Annotated[
        float | None, typer.Option(min=0, help="pGSLM: of pitch.", show_default=False)
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="A voice of the vocoder; its first where not given.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write piece by piece while units are still being made.")
    ] = False,
    precision: Precision = "float32",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Go on speaking where a recording stops.

    The file written holds the first --seed-s seconds of AUDIO, spoken again from their units, then the new speech.
    With --stream it grows while speech is made, to the same bytes; --out - writes it to standard output, to be heard:
    speechprompt continue sentence.wav --stream --out - | aplay

    Example: speechprompt continue sentence.wav --seed-s 2.0 --length-s 4.0 --out continued.wav
    """
    import numpy as np

    from speechprompt.decode import SamplingConfig
    from speechprompt.generate.continuation_run import load_continuation_run
    from speechprompt.generate.continuation_stream import stream_continuation
    from speechprompt.stack_folder import load_stack
    from units.audio import write_audio
    from units.errors import InputError
    from units.wav_stream import write_wav_stream

    to_pipe = str(out) == "-"
    if to_pipe and not stream:
        raise InputError("--out: expected a file, got -; standard output is written to with --stream alone")
    if stream and not to_pipe and out.suffix.lower() != ".wav":
        raise InputError(f"--out: expected a name ending in .wav, or -, with --stream, got {out}; rename it")
    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy, seed=seed)
    opened = None if run is None else load_continuation_run(run, stack=stack, precision=precision)
    result = stream_continuation(
        load_stack(stack or "mini", precision=precision) if opened is None else opened.stack,
        audio,
        seed_s=seed_s,
        seed_ratio=seed_ratio,
        length_s=length_s,
        sampling=sampling,
        speaker=speaker,
        duration_temperature=duration_temperature,
        f0_temperature=f0_temperature,
        prefix=None if opened is None else opened.prompted.prefix(),
    )
    if stream:
        write_wav_stream(None if to_pipe else out, result, result.n_samples, result.sample_rate)
    else:
        write_audio(out, np.concatenate(list(result)), result.sample_rate)
    emit(
        {
            "out": str(out),
            "seconds": result.n_samples / result.sample_rate,
            "seed_seconds": result.boundary_s,
            "units": result.units.units.tolist(),
            "n_seed_units": result.n_seed_units,
        },
        f"{out}: {result.boundary_s:.2f} s given, then {result.units.duration_s - result.boundary_s:.2f} s continued",
        as_json=as_json,
        to_stderr=to_pipe,
    )


def train_continuation(
    out: Path,
    data: Path | None,
    stack: str,
    *,
    prompt: Mapping[str, Any],
    training: Mapping[str, Any],
    device: str,
    as_json: bool,
) -> None:
    """What `train` does for this task; `training`: settings that differ from `TRAINING`."""
    from dataclasses import replace

    from speechprompt.generate.continuation_run import ContinuationConfig
    from speechprompt.generate.continuation_run import train_continuation as train_run
    from speechprompt.generate.pair_training import TRAINING
    from units.errors import InputError

    if prompt["kind"] != "deep" or prompt["cross_attention"]:
        raise InputError("prompt: expected a deep one for continuation, got another; leave --prompt out")
    config = replace(TRAINING, **training)
    run = train_run(
        stack=stack,
        out=out,
        data=data,
        config=ContinuationConfig(length=prompt["length"], seed=config.seed),
        training=config,
        device=device,
        progress=True,
    )
    perplexity = run.record.metrics["valid"]["perplexity"]
    measured = f"perplexity {perplexity:.2f} of what follows in the validation split"
    emit_trained(run.folder, run.record, len(run.history), measured, as_json=as_json)


def evaluate_continuation(run: Path, split: str, data: Path | None, *, device: str, as_json: bool) -> None:
    """What `evaluate` does for a run of this task."""
    from speechprompt.generate.continuation_run import evaluate_continuation as evaluate_run

    measures = evaluate_run(run, split, data=data, device=device, progress=True)
    heard = [
        f"{name.removeprefix('seed_')} heard: perplexity {of['perplexity']:.2f} (without the prompt "
        f"{of['plain_perplexity']:.2f})"
        for name, of in measures.items()
        if name != "n"
    ]
    emit(measures, f"{run}, {split}: {'; '.join(heard)}; {measures['n']:,} recordings", as_json=as_json)
