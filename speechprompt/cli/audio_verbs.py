"""Verbs from audio to units and back: quantize, resynthesize."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import AudioFile, AudioFiles, Json, OutAudio, Precision, StackName

if TYPE_CHECKING:
    from speechprompt.stack import Stack
    from units.quantizer import CodebookQuantizer


def quantize(
    audio: AudioFiles = [],  # noqa: B006 (typer copies it)
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Table of path[,id,label,speaker,split], in place of AUDIO."),
    ] = None,
    inside: Annotated[
        bool, typer.Option("--inside", help="Refuse paths that lead out of the folder of --manifest.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the unit store (Parquet).")] = Path(
        "units"
    ),
    stack: StackName = "mini",
    frames: Annotated[bool, typer.Option("--frames", help="Keep one unit per frame, runs included.")] = False,
    f0: Annotated[bool, typer.Option("--f0", help="Measure pitch as well, for pGSLM.")] = False,
    backend: Annotated[
        str, typer.Option(help="Where workers run: loky (here), ray or dask (a cluster).")
    ] = "loky",
    address: Annotated[
        str | None,
        typer.Option(help="Of the cluster: HOST:6379 of Ray, tcp://HOST:8786 of Dask.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes at once, -1 for one per core; one here, a cluster's all.", show_default=False
        ),
    ] = None,
    precision: Precision = "float32",
    shard_size: Annotated[
        int, typer.Option(min=1, help="Recordings per file of the store, and per task of a worker.")
    ] = 256,
    as_json: Json = False,
) -> None:
    """Turn recordings into a store of discrete units.

    A job that was stopped continues when the same command is given again. Files that cannot be read are listed
    in DIR/failures.csv; the others are kept, and the exit code is 2. The same command given several times at once
    shares the work. Hosts of a cluster must see recordings and DIR under the same paths.

    Example: speechprompt quantize speech/*.flac --out units
    """
    from speechprompt.stack_folder import load_stack
    from units.corpus import CorpusEntry, quantize_corpus, read_manifest
    from units.errors import InputError
    from units.store import UnitStore

    if bool(audio) == (manifest is not None):
        raise InputError(
            "quantize: expected either AUDIO files or --manifest, got both or none; give one of them"
        )
    if inside and manifest is None:
        raise InputError("--inside: expected a --manifest beside it, got AUDIO files; leave it out")
    entries = (
        [CorpusEntry(str(path), path) for path in audio]
        if manifest is None
        else read_manifest(manifest, inside=inside)
    )
    existed = out.exists()
    parts = load_stack(stack, precision=precision)
    parts = replace(parts, folder=parts.folder.absolute())  # workers of a cluster are in other folders
    result = quantize_corpus(
        entries,
        partial(_quantizer_of, parts),
        out,
        deduplicate=not frames,
        f0=f0,
        backend=backend,
        address=address,
        n_workers=workers,
        shard_size=shard_size,
    )
    if result.failures:
        place = f"listed in {out / 'failures.csv'}"
        if result.n_done == 0 and not existed:
            shutil.rmtree(out)
            place = "nothing was written"
        _, reason = result.failures[0]
        n_failed, n_all = len(result.failures), len(entries)
        raise InputError(reason if n_all == 1 else f"{n_failed} of {n_all} files failed ({place}): {reason}")
    store = UnitStore(out)
    n_units = sum(len(row.units) for row in store.rows())
    emit(
        {"out": str(out), "n": result.n_done, "n_units": n_units, "f0": f0, "spec": store.spec.to_dict()},
        f"{out}: {n_units:,} units of {result.n_done:,} recordings{', with F0' if f0 else ''}",
        as_json=as_json,
    )


def resynthesize(
    audio: AudioFile,
    out: OutAudio,
    stack: StackName = "mini",
    speaker: Annotated[
        str | None, typer.Option(help="A voice of the vocoder; its first where not given.")
    ] = None,
    precision: Precision = "float32",
    as_json: Json = False,
) -> None:
    """Speak a recording again from its units, and from its pitch where the stack's vocoder reads it.

    Example: speechprompt resynthesize sentence.wav --out again.wav
    """
    from speechprompt.stack_folder import load_stack
    from units.audio import write_audio

    parts = load_stack(stack, precision=precision)
    [units] = parts.quantize(audio, f0=parts.voice.needs_f0)
    wave = parts.voice.speak(units, speaker)
    write_audio(out, wave, parts.vocoder.sample_rate)
    seconds = len(wave) / parts.vocoder.sample_rate
    emit(
        {"out": str(out), "seconds": seconds, "units": units.units.tolist()},
        f"{out}: {seconds:.2f} s from {len(units)} units",
        as_json=as_json,
    )


def _quantizer_of(stack: Stack) -> CodebookQuantizer:
    """The stack's quantizer; a function of the module, so that worker processes can be sent it."""
    return stack.quantizer
