"""The errors a user can cause: each message is one line, `what: expected ..., got ...; remedy`."""

from __future__ import annotations


class InputError(ValueError):
    """Base of everything that wrong user input can raise.

    The command line prints the message in one line and exits with code 2; any other exception is a bug.
    Line breaks in the message (from a file name, say) are folded into spaces: one line stays one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class AudioError(InputError):
    """An audio file or wave that cannot be used: missing, empty, not audio, too short, or not finite."""


class UnitSpecMismatch(InputError):
    """Two artefacts of different unit inventories were about to be joined."""
