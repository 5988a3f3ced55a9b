"""The verb translate, and what train and evaluate do for the task translation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import AudioFile, Device, Json, OutAudio, Seed
from speechprompt.cli.trained import emit_trained


def translate(
    audio: AudioFile,
    run: Annotated[Path, typer.Option(metavar="RUN", help="Folder that train --task translation wrote.")],
    out: OutAudio,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the run's.", show_default=False)
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept; 1 is greedy.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="Sample, in place of the likeliest.", show_default=False)
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="A voice of the vocoder; its first where not given.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Say a recording in another language, by a trained prompt.

    Example: speechprompt translate frase.wav --run runs/es_en --out sentence.wav
    """
    from speechprompt.decode import SamplingConfig
    from speechprompt.generate.translation import load_translation_run, translate_speech
    from speechprompt.seq2seq.decoding import WritingConfig
    from units.audio import write_audio

    sampling = (
        SamplingConfig(greedy=True)
        if temperature is None
        else SamplingConfig(temperature=temperature, seed=seed)
    )
    opened = load_translation_run(run, stack=stack, device=device)
    result = translate_speech(
        opened, audio, writing=WritingConfig(beam=beam, sampling=sampling), speaker=speaker
    )
    write_audio(out, result.wave, result.sample_rate)
    seconds = len(result.wave) / result.sample_rate
    emit(
        {"out": str(out), "seconds": seconds, "units": result.units.tolist()},
        f"{out}: {seconds:.2f} s from {len(result.units)} units",
        as_json=as_json,
    )


def train_translation(
    out: Path,
    data: Path | None,
    stack: str,
    *,
    prompt: Mapping[str, Any],
    source_language: str | None,
    training: Mapping[str, Any],
    device: str,
    as_json: bool,
) -> None:
    """What `train` does for this task; `training`: settings that differ from `TRAINING`."""
    from dataclasses import replace

    from speechprompt.generate.pair_training import TRAINING
    from speechprompt.generate.translation import TranslationConfig
    from speechprompt.generate.translation import train_translation as train_run
    from speechprompt.seq2seq.config import Seq2SeqPromptConfig
    from speechprompt.training_log import read_log

    config = replace(TRAINING, **training)
    run = train_run(
        stack=stack,
        out=out,
        data=data,
        prompt=Seq2SeqPromptConfig(**prompt, seed=config.seed),
        config=TranslationConfig(source_language),
        training=config,
        device=device,
        progress=True,
    )
    accuracy = run.record.metrics["valid"]["unit_accuracy"]
    measured = f"{100 * accuracy:.1f}% of the validation targets' units, each after the true ones,"
    emit_trained(run.folder, run.record, len(read_log(run.folder)), measured, as_json=as_json)


def evaluate_translation(
    run: Path, split: str, data: Path | None, *, beam: int, judge: str | None, device: str, as_json: bool
) -> None:
    """What `evaluate` does for a run of this task."""
    from speechprompt.generate.translation_evaluation import evaluate_translation as evaluate_run
    from speechprompt.generate.translation_evaluation import in_words
    from speechprompt.judge import load_judge
    from speechprompt.seq2seq.decoding import WritingConfig

    measures = evaluate_run(
        run,
        split,
        data=data,
        writing=WritingConfig(beam=beam),
        judge=None if judge is None else load_judge(judge, device=device),
        device=device,
        progress=True,
    )
    emit(
        measures, f"{run}, {split}: {', '.join(in_words(measures))}, {measures['n']:,} pairs", as_json=as_json
    )
