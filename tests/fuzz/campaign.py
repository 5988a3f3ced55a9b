"""Coverage-guided fuzzing of one reader: `python -m tests.fuzz.campaign READER FOLDER [libFuzzer's options]`.

FOLDER keeps the corpus that grows; what went wrong is written there as crash-*, oom-* or timeout-*, which
`python -m tests.fuzz.campaign READER FOLDER crash-...` repeats. Needs atheris.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["units", "tasks", "speechprompt"]):
    from tests.fuzz.readers import READERS
    from units.errors import InputError


def main() -> None:
    """Write the reader's seeds, then read what libFuzzer makes of them; anything but InputError ends the process."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    reader = READERS[name]
    for number, seed in enumerate(reader.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    with tempfile.TemporaryDirectory() as place:
        reader.prepare(Path(place))

        def read(content: bytes) -> None:
            with suppress(InputError):  # what a reader says of content that it cannot use
                reader.read(content, Path(place))

        atheris.Setup([sys.argv[0], str(folder), *sys.argv[3:]], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
