import os
import subprocess
import sys

import pytest
import torch

# Products of a thousand shapes, as batches of speech bring them; prints by how many MiB the process has grown.
GROWTH = """
from pathlib import Path

import torch

import units


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def multiply(n_rows):
    return torch.ones(n_rows, 256, dtype=torch.bfloat16) @ weight


weight = torch.ones(256, 256, dtype=torch.bfloat16)
multiply(8)
before = resident()
for n_rows in range(9, 1_009):
    multiply(n_rows)
print((resident() - before) // 1024)
"""
NAMES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
DEFAULT = "1024"  # torch's own


def in_process(code: str, **given: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"OMP_NUM_THREADS": "1"} | given,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(
    sys.platform != "linux" or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="kernels for bfloat16 are compiled, and resident memory is told, on Linux with AVX-512 only",
)
def test_kernels_of_many_shapes_do_not_pile_up() -> None:
    bounded = int(in_process(GROWTH))
    assert bounded < 0.5 * int(in_process(GROWTH, **dict.fromkeys(NAMES, DEFAULT)))


def test_what_the_environment_says_stays() -> None:
    code = f"import units, os; print(*(os.environ[name] for name in {NAMES}))"
    assert in_process(code) == "128 128"
    assert in_process(code, LRU_CACHE_CAPACITY="7") == "128 7"
