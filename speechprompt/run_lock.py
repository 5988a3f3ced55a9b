"""One training at a time in a run folder.

The lock is one of the operating system on a file in `RUN/resume`, see `units.claims`: it ends with the process that
holds it, however that ends, and its file goes with the rest of that folder when the run is finished. Who holds it
removes what a killed training left half-written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechprompt.checkpoint import STATE_FILE, require_free
from speechprompt.run_record import RunExistsError, read_record
from units.atomic import remove_torn_below
from units.claims import claimed


@contextmanager
def training_lock(folder: str | Path) -> Iterator[None]:
    """Be the only one to train the run in the block; one process of a training on several takes it for all of them.

    Raises: RunExistsError where another training runs there, or has finished the run meanwhile; RunError: no run.
    """
    read_record(folder)  # a run it must be, before a file is made there
    with claimed((Path(folder) / STATE_FILE).parent, "training") as mine:
        if not mine:
            raise RunExistsError(
                f"{folder}: expected a run that nobody trains at this moment, got one in training; wait for its end, "
                "or choose another --out"
            )
        require_free(folder)
        remove_torn_below(folder)
        yield
