"""The verb train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from speechprompt.cli.options import Device, Json, Seed, StackName
from speechprompt.cli.train_choices import GapFill, PromptKind, SlotWay, VerbalizerKind, VerbalizerRead
from speechprompt.cli.trained import emit_trained
from tasks.names import listed as task_names

PROMPT_LENGTH, SPEECH_PROMPT_LENGTH = 5, 20  # published for labels; what Seq2SeqPromptConfig has for speech
# Of recordings that are read, to labels or texts, by their names in TrainConfig: nothing of it reaches pairs of speech.
_OF_READING = {
    "offset_perturbation": "--offsets",
    "speed_perturbation": "--speeds",
    "unit_dropout": "--unit-dropout",
}


def train(
    task: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"One of: {task_names()}"),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder to make.")],
    data: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="The task's data; without it, the bundled sample.")
    ] = None,
    stack: StackName = "mini",
    prompt: Annotated[PromptKind, typer.Option(help="In every layer, or as input rows.")] = PromptKind.DEEP,
    prompt_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Prompt positions.  [default: {PROMPT_LENGTH}; where speech is generated {SPEECH_PROMPT_LENGTH}]",
            show_default=False,
        ),
    ] = None,
    verbalizer: Annotated[
        VerbalizerKind, typer.Option(help="How labels are read.")
    ] = VerbalizerKind.LEARNABLE,
    read: Annotated[
        VerbalizerRead,
        typer.Option(
            help="What a learnable verbalizer reads: logits, as SpeechPrompt v2, or what they come from."
        ),
    ] = VerbalizerRead.HIDDEN,
    slots: Annotated[
        SlotWay, typer.Option(help="How labels of several slots are read: together, one by one, at once.")
    ] = SlotWay.JOINT,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.  [default: 0.02]", show_default=False)
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs at most; the task's default, more of few recordings.", show_default=False),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Epochs without a better validation before stopping.", show_default=False),
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens in a batch.", show_default=False)] = None,
    speeds: Annotated[
        str | None,
        typer.Option(metavar="F,F", help="Also train at these speeds, 0.9,1.0,1.1 say.", show_default=False),
    ] = None,
    offsets: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also train on recordings whose frames begin at N places of a frame.",
            show_default=False,
        ),
    ] = None,
    unit_dropout: Annotated[
        float | None, typer.Option(help="Share of units dropped.", show_default=False)
    ] = None,
    gap_s: Annotated[
        str, typer.Option(metavar="S,S", help="Inpainting: shortest and longest gap in seconds.")
    ] = "0.4,1.0",
    gaps: Annotated[int, typer.Option(min=1, help="Inpainting: gaps of a recording.")] = 1,
    gap_fill: Annotated[
        GapFill, typer.Option(help="Inpainting: what the gaps hold in training.")
    ] = GapFill.ZEROS,
    masked: Annotated[
        bool, typer.Option("--masked", help="Inpainting: show the model a mask, not what is heard there.")
    ] = False,
    cross_attention: Annotated[
        bool,
        typer.Option(
            "--cross-attention", help="Inpainting, translation: prompt also between decoder and encoder."
        ),
    ] = False,
    source_language: Annotated[
        str | None, typer.Option(metavar="TAG", help="Translation: of the unit mBART's.", show_default=False)
    ] = None,
    target_language: Annotated[
        str | None, typer.Option(metavar="TAG", help="Translation: of the unit mBART's.", show_default=False)
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a prompt for a task; the language model stays as it is.

    The same command continues a training that was stopped, to the same result. The tasks continuation and
    inpainting take a folder of recordings, or a CSV that lists them, translation a CSV of source,target; the last two a
    stack with a unit mBART.

    Example: speechprompt train --task csv_classification --data my_words --out runs/my_words
    """
    from speechprompt.prompt_config import PromptConfig
    from speechprompt.train_config import TrainConfig
    from speechprompt.training import train as train_task

    chosen = {
        "lr": lr,
        "max_epochs": max_epochs,
        "patience": patience,
        "batch_tokens": batch_tokens,
        "unit_dropout": unit_dropout,
        "offset_perturbation": offsets,
        "speed_perturbation": None if speeds is None else _numbers("--speeds", speeds),
        "seed": seed,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    speech_prompt = {
        "kind": prompt.value,
        "length": prompt_length or SPEECH_PROMPT_LENGTH,
        "cross_attention": cross_attention,
    }
    if task in ("continuation", "inpainting", "translation"):
        _refuse_of_reading(task, given)
    if task == "continuation":
        from speechprompt.cli.continue_verb import train_continuation

        train_continuation(
            out, data, stack, prompt=speech_prompt, training=given, device=device, as_json=as_json
        )
        return
    if task == "translation":
        from speechprompt.cli.translate_verb import train_translation

        train_translation(
            out,
            data,
            stack,
            prompt={**speech_prompt, "language": target_language},
            source_language=source_language,
            training=given,
            device=device,
            as_json=as_json,
        )
        return
    if task == "inpainting":
        from speechprompt.cli.inpaint_verb import train_inpainting

        shortest, longest = _bounds("--gap-s", gap_s)
        train_inpainting(
            out,
            data,
            stack,
            prompt=speech_prompt,
            corruption={
                "min_s": shortest,
                "max_s": longest,
                "n_spans": gaps,
                "fill": gap_fill.value,
            },
            masked=masked,
            training=given,
            device=device,
            as_json=as_json,
        )
        return
    config = TrainConfig.from_dict(given)
    run = train_task(
        task,
        stack,
        out,
        data=data,
        prompt_config=PromptConfig(
            kind=prompt.value,
            length=prompt_length or PROMPT_LENGTH,
            verbalizer=verbalizer.value,
            read=read.value,
            slots=slots.value,
        ),
        seed=seed,
        config=config,
        device=device,
        progress=True,
    )
    measured = _validation(run.metrics["valid"])
    emit_trained(run.folder, run.record, len(run.history), measured, as_json=as_json)


def _refuse_of_reading(task: str, given: Mapping[str, Any]) -> None:
    from units.errors import InputError

    for name, option in _OF_READING.items():
        if name in given:
            raise InputError(
                f"{option}: expected a task of labels or texts, got {task}, which has no use for it; leave it out"
            )


def _validation(valid: Mapping[str, float]) -> str:
    """What training measured on the validation split, in words."""
    if "symbol_accuracy" in valid:
        return f"{100 * valid['symbol_accuracy']:.1f}% of the validation split's symbols, each after the true ones,"
    return f"{100 * valid['accuracy']:.1f}% on the validation split"


def _bounds(option: str, text: str) -> tuple[float, float]:
    from units.errors import InputError

    numbers = _numbers(option, text)
    if len(numbers) != 2:
        raise InputError(f"{option}: expected the shortest and the longest, got {text!r}; write 0.4,1.0")
    return numbers[0], numbers[1]


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from units.errors import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option}: expected numbers between commas, got {text!r}; write 0.9,1.0,1.1"
        ) from None
