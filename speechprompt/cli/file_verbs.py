"""Verbs around other people's files: fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Json

if TYPE_CHECKING:
    from speechprompt.official_files import OfficialFile


def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Official files, or stacks for all of theirs.")
    ] = [],  # noqa: B006 (typer copies it)
    listing: Annotated[bool, typer.Option("--list", help="Say what there is, and fetch nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Download published checkpoints into the cache and verify them.

    A download that was interrupted goes on where it stopped. Files lie in $SPEECHPROMPT_CACHE, or in
    ~/.cache/speechprompt, under official/NAME.

    Example: speechprompt fetch hubert-base-ls960 gslm-hubert-km100-ulm
    """
    from speechprompt.official_files import find_files, official_files
    from units.errors import InputError

    if bool(names) == listing:
        raise InputError("fetch: expected NAME or --list, got both or none; give one of them")
    if listing:
        files = list(official_files().values())
        emit({"files": [_described(file) for file in files]}, "\n".join(map(_line, files)), as_json=as_json)
        return
    wanted = {
        file.name: file for name in names for file in find_files(name)
    }  # all names first: a typo costs nothing
    from speechprompt.hub import fetch_file

    paths = {name: str(fetch_file(file, progress=True)) for name, file in wanted.items()}
    emit({"files": paths}, "\n".join(f"{name}  {path}" for name, path in paths.items()), as_json=as_json)


def _described(file: OfficialFile) -> dict[str, object]:
    from speechprompt.hub import cached_path

    return {**file.to_dict(), "cached": cached_path(file).is_file()}


def _line(file: OfficialFile) -> str:
    from speechprompt.hub import cached_path

    size = "" if file.n_bytes is None else f", {file.n_bytes / 1e6:,.0f} MB"
    stacks = f", for {' '.join(file.stacks)}" if file.stacks else ""
    checked = "sha256 known" if file.sha256 else "sha256 not published"
    here = "* " if cached_path(file).is_file() else "  "
    return f"{here}{file.name}  ({file.family}{size}, {checked}{stacks})"
