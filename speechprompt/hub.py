"""Fetching official files into the cache: verified, in one step, one process at a time, going on where it stopped.

The file NAME lies at CACHE/official/NAME/, CACHE being $SPEECHPROMPT_CACHE or ~/.cache/speechprompt. pooch decides
whether a file is there and right, verifies the checksum and gives the finished file its name; how the bytes come is
`speechprompt.download`. A file put there by hand serves as well, if its checksum is right.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from speechprompt.cache_folder import cache_folder
from speechprompt.download import FetchError, ResumingDownloader
from speechprompt.official_files import OfficialFile, find_files
from units.errors import InputError

_TORN = "tmp????????"  # what pooch writes to until it knows the checksum; a kill leaves it behind

__all__ = ["FetchError", "cached_path", "fetch", "fetch_file"]


def cached_path(file: OfficialFile) -> Path:
    """Where the file lies once it is fetched."""
    return cache_folder() / "official" / file.name / file.file_name


def fetch(name: str, *, progress: bool = False) -> list[Path]:
    """Bring an official file, or all files of a stack, into the cache.

    name: of a file or of a stack, see `official_files`. progress: show a bar, if standard error is a terminal.
    Returns the paths, in the registry's order. Raises InputError: no such name; FetchError: see `fetch_file`.
    """
    return [fetch_file(file, progress=progress) for file in find_files(name)]


def fetch_file(file: OfficialFile, *, progress: bool = False) -> Path:
    """Bring one file into the cache, unless it is there and right.

    Another process that wants the same file waits, and then finds it. What an interrupted download had is kept, and
    the next call goes on from there where the server can.
    Returns its path. Raises FetchError: no network, no such file there, or what came is not what the registry names.
    """
    import pooch

    target = cached_path(file)
    _make_folder(target.parent)
    known_hash = None if file.sha256 is None else f"sha256:{file.sha256}"
    downloader = ResumingDownloader(target, file, progress=progress)
    with FileLock(target.parent / ".lock"), _quiet(pooch.get_logger()):
        for torn in target.parent.glob(_TORN):
            torn.unlink()
        if target.is_file() and file.n_bytes not in (None, target.stat().st_size):
            target.unlink()  # a checksum need not be computed to see that this is another file
        try:
            pooch.retrieve(file.url, known_hash, target.name, target.parent, downloader=downloader)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise FetchError(
                f"{file.name}: expected sha256 {file.sha256} at {file.url}, got another file of {downloader.n_bytes:,} "
                "bytes; try again later, and do not use a file with another checksum"
            ) from error
        downloader.forget()
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise FetchError(
            f"{folder}: expected a folder that can be written, got {error.strerror}; set SPEECHPROMPT_CACHE to another"
        ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from announcing what the caller says itself."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
