"""Two processes never compile librosa at one moment: the crash that follows needs a race, so the order is tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from units import compiled_librosa
from units.claims import CLAIMS_FOLDER, claimed

CHILD = """
import sys
import units.pitch, tasks.metrics.aligned, tasks.metrics.mel_cepstrum
from units.compiled_librosa import compiled_librosa
print("librosa.core" in sys.modules, "numba" in sys.modules, flush=True)
compiled_librosa()
print("compiled", flush=True)
"""


def test_a_process_waits_for_the_one_that_compiles() -> None:
    folder = compiled_librosa._numba_folder()
    with claimed(folder, compiled_librosa.CLAIM, wait=True):
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "False False\n"  # nothing of it is compiled by an import of ours
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=2)
    assert child.communicate(timeout=300)[0] == "compiled\n" and child.returncode == 0


def test_nothing_else_imports_librosa() -> None:
    root = Path(compiled_librosa.__file__).parents[1]
    files = [
        file
        for folder in ("units", "vocoder", "tasks", "speechprompt", "scripts")
        for file in (root / folder).rglob("*.py")
    ]
    importing = [
        f for f in files if re.search(r"^\s*(import|from) librosa\b", f.read_text(encoding="utf-8"), re.M)
    ]
    assert importing == [Path(compiled_librosa.__file__)]


def test_the_claim_lies_where_numba_keeps_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    librosa = compiled_librosa.compiled_librosa()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert compiled_librosa._numba_folder() == Path(librosa.__file__).parent
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled_librosa.compiled_librosa.cache_clear()
    again = compiled_librosa.compiled_librosa()
    assert again is librosa and (tmp_path / CLAIMS_FOLDER).is_dir()
    assert again.util.localmax(np.array([0.0, 2.0, 1.0])).tolist() == [False, True, False]
