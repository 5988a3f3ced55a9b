"""The command `speechprompt`: one function per verb, each a few lines around a library function."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (of this process where `arguments` is None) and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0 success, 2 input that cannot be used, 130 stopped."""
    from speechprompt.cli.app import app
    from speechprompt.cli.boundary import guarded

    os.environ.setdefault(
        "TRANSFORMERS_VERBOSITY", "error"
    )  # our verbs say what happens; libraries stay silent
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    given = None if arguments is None else list(arguments)
    return guarded(lambda: app(args=given, prog_name="speechprompt", standalone_mode=False))
