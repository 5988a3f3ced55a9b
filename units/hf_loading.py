"""Loading with transformers: silent, and with errors a user can read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from units.errors import InputError


@contextmanager
def silent() -> Iterator[None]:
    """Keep transformers from reporting what the caller does on purpose, and from drawing progress bars."""
    verbosity, had_progress_bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if had_progress_bar:
            hf_logging.enable_progress_bar()


@contextmanager
def loading(source: str | Path, what: str) -> Iterator[None]:
    """Turn failures to load into InputError, silently.

    source: folder or hub name. what: kind of model, for the message.
    """
    try:
        with silent():
            yield
    except (
        OSError,
        ValueError,
        SafetensorError,
    ) as error:  # what transformers raises for absent or damaged files
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            raise
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise InputError(
            f"{source}: expected a {what} folder or hub name, got an error ({reason}); check the name"
        ) from error
