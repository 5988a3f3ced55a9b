"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
StackName = Annotated[str, typer.Option("--stack", help="Name of a bundled stack, or a stack's folder.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal results.")]
AudioFile = Annotated[Path, typer.Argument(metavar="AUDIO", help="WAV, FLAC, OGG or MP3, any rate.")]
AudioFiles = Annotated[
    list[Path], typer.Argument(metavar="AUDIO...", help="WAV, FLAC, OGG or MP3, any rate.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `train` wrote.")]
OutAudio = Annotated[Path, typer.Option("--out", metavar="WAV", help="File to write: .wav, .flac or .ogg.")]
