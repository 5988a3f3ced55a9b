"""No content makes a reader crash, hang or grow: seeds are read, damaged ones are read or refused by InputError.

`make soak` lets atheris look for such content for SPEECHPROMPT_FUZZ_S seconds (60) per reader.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.readers import READERS
from units.errors import InputError

N_DAMAGED = 60  # of each seed
SECONDS = float(os.environ.get("SPEECHPROMPT_FUZZ_S", "60"))
MEGABYTES = 4_096  # torch and transformers alone take one gigabyte


@pytest.mark.parametrize("name", READERS)
def test_valid_content_is_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    reader.prepare(tmp_path)
    for seed in reader.seeds():
        reader.read(seed, tmp_path)


def damaged(seed: bytes, rng: np.random.Generator) -> bytes:
    """A seed with some bytes changed, left out or repeated, as disks, networks and mischief do."""
    content = bytearray(seed)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(content) + 1))
        stop = place + int(rng.choice([1, 2, 8, 64, 1024]))
        what = rng.integers(5)
        if what == 0:
            content[place:stop] = rng.bytes(len(content[place:stop]))
        elif what == 1:
            del content[place:stop]
        elif what == 2:
            content[place:place] = content[place:stop]
        elif what == 3:
            del content[place:]
        elif place < len(content):
            content[place] = int(rng.choice([0, 10, 34, 45, 48, 57, 91, 123, 255]))
    return bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_damaged_content_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    reader.prepare(tmp_path)
    rng = np.random.default_rng(0)
    n_refused = 0
    for seed in reader.seeds():
        for _ in range(N_DAMAGED):
            try:
                reader.read(damaged(seed, rng), tmp_path)
            except InputError:
                n_refused += 1
    assert n_refused > 0


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
def test_nothing_is_found_in_a_campaign(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this Python")
    limits = [f"-max_total_time={SECONDS:g}", f"-rss_limit_mb={MEGABYTES}", "-timeout=20", "-max_len=20000"]
    command = [sys.executable, "-m", "tests.fuzz.campaign", name, str(tmp_path), *limits]
    command.append(f"-artifact_prefix={tmp_path}/")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(file.name for file in tmp_path.glob("[clot]*-*"))  # crash, leak, oom, timeout
    assert done.returncode == 0 and not found, f"{found}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


FOUND = [  # by campaigns: what is put in the place of what
    ("codebook", rb"\"encoder\":", rb"\"encoder\";"),
    ("codebook", rb"\"n_units\": 8", rb"\"n_units\": []"),
    ("language-model", b'"dropout": 0.1', b'"dropout": 5.1'),
    ("language-model", b'"n_layers": 1', b'"n_layers": 900000000'),
    ("language-model", b'"7"', b"7"),
    ("language-model", b'"7"', b'"700000000000"'),
]


@pytest.mark.parametrize(("name", "old", "new"), FOUND)
def test_what_campaigns_found_stays_refused(name: str, old: bytes, new: bytes, tmp_path: Path) -> None:
    reader = READERS[name]
    reader.prepare(tmp_path)
    [seed] = reader.seeds()
    content = seed.replace(old, new)
    if name == "codebook":  # its first eight bytes say how long the header is
        length = int.from_bytes(seed[:8], "little") + len(content) - len(seed)
        content = length.to_bytes(8, "little") + content[8:]
    assert content != seed
    with pytest.raises(InputError):
        reader.read(content, tmp_path)


def test_a_state_of_number_codes_without_numbers_stays_refused(tmp_path: Path) -> None:
    READERS["run-state"].prepare(tmp_path)
    with pytest.raises(InputError, match="expected a training state"):
        READERS["run-state"].read(b"G" * 21 + b"\x15", tmp_path)
