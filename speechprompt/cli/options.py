"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def checked_device(name: str) -> str:
    """Pass the name of a device that is there. Raises InputError otherwise."""
    if name == "cpu":
        return name
    import torch

    from units.errors import InputError

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without it
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device: expected cpu or a device that is there, got {name!r} ({reason}); use cpu"
        ) from None
    return name


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
StackName = Annotated[
    str, typer.Option("--stack", metavar="NAME", help="A bundled or official stack, or a stack's folder.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Equal seeds give equal results.")]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", callback=checked_device, help="Where to compute: cpu, cuda, cuda:1, mps."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Of encoder, language model and vocoder: float32, or bf16 (faster where the processor has it, rounded).",
    ),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Also measure words: pocketsphinx, or a folder of Whisper or a CTC model of transformers.",
        show_default=False,
    ),
]
AudioFile = Annotated[Path, typer.Argument(metavar="AUDIO", help="WAV, FLAC, OGG or MP3, any rate.")]
AudioFiles = Annotated[
    list[Path], typer.Argument(metavar="AUDIO...", help="WAV, FLAC, OGG or MP3, any rate.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `train` wrote.")]
OutAudio = Annotated[Path, typer.Option("--out", metavar="WAV", help="File to write: .wav, .flac or .ogg.")]
Beam = Annotated[int, typer.Option(min=1, help="Hypotheses kept while symbols are decoded; 1 is greedy.")]
GapBeam = Annotated[
    int | None,
    typer.Option(
        "--beam",
        min=1,
        help="Fill gaps with the likeliest row that so many hypotheses find; 1 is greedy.",
        show_default=False,
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        min=1,
        help="Fill gaps with the median of so many rows drawn, 32 if not said.",
        show_default=False,
    ),
]
CandidatesTemperature = Annotated[
    float | None,
    typer.Option("--temperature", min=0.01, help="Of the rows drawn, 1 if not said.", show_default=False),
]
MaxLength = Annotated[
    int | None,
    typer.Option(min=1, help="Most symbols of a text; by default a quarter more than training's longest."),
]
LengthFactor = Annotated[float | None, typer.Option(help="Most symbols for each unit.", show_default=False)]
