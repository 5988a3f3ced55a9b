"""Writing that leaves either the whole result or nothing: temporary sibling, fsync, rename."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = ".tmp-"  # of names that a kill may leave behind


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; it takes the name `path` once the block ends well.

    The temporary name keeps the suffixes of `path`, because many writers choose the format by suffix. The
    parent folder is made where missing. An existing file at `path` is replaced in one step.

    Raises: whatever the block raises, after the temporary file has been removed; OSError (a full disk, say).
    """
    target = Path(path)
    with _beside(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=_PREFIX, suffix=f"-{target.name[-100:]}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _sync(temporary)
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result should be readable
            temporary.replace(target)
            _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to fill; it takes the name `path` once the block ends well.

    Raises: FileExistsError where something has that name already, before the block or at its end;
    whatever the block raises, after the temporary folder has been removed.
    """
    target = Path(path)
    _require_free(target)
    with _beside(target):
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=_PREFIX, suffix=f"-{target.name[-100:]}"))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            _require_free(target)
            temporary.chmod(0o777 & ~_umask())
            temporary.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_torn(path: str | Path) -> None:
    """Remove what a kill in the middle of `atomic_path(path)` left; only while nobody else can be writing `path`."""
    target = Path(path)
    for torn in target.parent.glob(f"{_PREFIX}*-{glob.escape(target.name[-100:])}"):
        torn.unlink(missing_ok=True)


def remove_torn_below(folder: str | Path) -> None:
    """Remove what kills in the middle of writing left anywhere in `folder`; only while nobody else writes there."""
    for torn in list(Path(folder).rglob(f"{_PREFIX}*")):
        if torn.is_dir():
            shutil.rmtree(torn, ignore_errors=True)
        else:
            torn.unlink(missing_ok=True)


@contextmanager
def _beside(target: Path) -> Iterator[None]:
    """Make the parent folder; on an error, remove what was made and let an OSError name the result, not a temporary."""
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for folder in made:
            with suppress(OSError):  # something else lies in it by now
                folder.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            named = Path(str(error.filename)).parts if error.filename is not None else (_PREFIX,)
            if any(part.startswith(_PREFIX) for part in named):
                error.filename = str(target)
        raise


def _require_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def _sync(path: Path) -> None:
    """Flush one file or folder to the disk, so that a rename never outlives the bytes it names."""
    with suppress(PermissionError):  # Windows cannot open a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """Read the process's file mode mask; the interface can only read it by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
