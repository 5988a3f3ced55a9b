"""librosa, whose compiled functions several processes may want for the first time at once.

numba keeps each compiled ufunc in two files that are written one after the other. Of two processes that compile at the
same moment, each can leave one of them, and whoever calls such a pair crashes (numba issue 10128). So one process
compiles while the others wait, and they find both files.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np

from units.claims import claimed

CLAIM = "librosa"  # of the process that compiles
_TONE = np.sin(np.arange(4_096) / 20).astype(np.float32)


@functools.cache
def compiled_librosa() -> ModuleType:
    """librosa, with what pitch and cepstra need of it compiled; nothing may import it in another way.

    Costs a second, the first time on a machine a quarter of a minute; waits where another process is at it.
    """
    with claimed(_numba_folder(), CLAIM, wait=True):
        import librosa  # its modules are compiled as they load, so not before this

        librosa.pyin(_TONE, fmin=100.0, fmax=400.0, sr=16_000, frame_length=1_024)
    return librosa


def _numba_folder() -> Path:
    """Where numba keeps what it compiles, so that whoever shares that shares the claim."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    found = importlib.util.find_spec("librosa")
    assert found is not None and found.origin is not None  # a dependency
    package = Path(found.origin).parent
    return package if os.access(package, os.W_OK) else Path.home() / ".cache" / "speechprompt"
