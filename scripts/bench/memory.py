"""Peak memory of one way to do one work, measured in a process of its own; a CPU's on Linux only.

python -m scripts.bench.memory --work labelling --way ours [--dims gslm]

The process builds the work with all its ways, forgets its highest peak so far (/proc/self/clear_refs), goes the one way
twice, and tells how far the peak (VmHWM of /proc/self/status) then lies above what was resident before: what the work
takes beside the weights. Before all that it goes the same way at the dimensions `tiny`, so that libraries loaded at a
first call do not count. Where the kernel offers no such thing (macOS, Windows), it tells "not measured". Of a GPU torch
tells the peak of what it took there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

import torch
import typer

from scripts.bench.alternating import CPU
from scripts.bench.dims import DIMS
from scripts.bench.works import works
from speechprompt.cli.options import checked_device

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"  # see proc(5)
_ROOT = Path(__file__).parents[2]
N_CALLS = 2  # what a first call keeps for later ones is there beside the second's own


def reset_peak() -> bool:
    """Make what is resident now the highest peak so far. Returns: whether the kernel can."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return peak_kib() is not None


def peak_kib() -> int | None:
    """The most that was resident since the last reset, in KiB; None where the kernel does not tell."""
    return status_kib("VmHWM")


def status_kib(name: str) -> int | None:
    """A line of /proc/self/status, in KiB ("VmRSS" is what is resident now); None where the kernel does not tell."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def growth_mib(work: Callable[[], object], calls: int = N_CALLS, device: torch.device = CPU) -> float | None:
    """MiB by which the peak of memory, resident or the GPU's, grows in some calls; None where it cannot be measured.

    Args:
        work: what is measured.
        calls: one after the other.
        device: whose memory.
    """
    gc.collect()
    if device.type == "cuda":
        return _growth_of_cuda_mib(work, calls, device)
    _give_back()
    if not reset_peak():
        return None
    before = peak_kib()
    for _ in range(calls):
        work()
    after = peak_kib()
    return None if before is None or after is None else (after - before) / 1024


def _growth_of_cuda_mib(work: Callable[[], object], calls: int, device: torch.device) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(calls):
        work()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _give_back() -> None:
    """Hand memory that was freed back to the system: kept by the allocator, it would hide growth. glibc only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def growth_in_child(dims: str, work: str, way: str, threads: int, device: str = "cpu") -> float | None:
    """`growth_mib` of a way in a fresh process; None where it cannot be measured.

    Args:
        dims: a name in DIMS.
        work: a name in `works`.
        way: one of its ways.
        threads: of the process.
        device: whose memory.
    Raises: subprocess.CalledProcessError where the process fails; it has told why on standard error.
    """
    command = [sys.executable, "-m", "scripts.bench.memory", "--dims", dims, "--threads", str(threads)]
    done = subprocess.run(
        [*command, "--device", device, "--work", work, "--way", way, "--json"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    mib: float | None = json.loads(done.stdout)["mib"]
    return mib


def as_text(mib: float | None) -> str:
    """MiB for a reader; "not measured" for None."""
    return "not measured" if mib is None else f"{mib:.1f} MiB"


def main(
    work: Annotated[str, typer.Option(help="Name of the work, as `make bench` prints it.")],
    way: Annotated[str, typer.Option(help="Name of the way.")] = "ours",
    dims: Annotated[str, typer.Option(help=f"Dimensions: {' or '.join(DIMS)}.")] = "gslm",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(metavar="NAME", help="Whose memory: cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print by how much the way's peak exceeds what was resident before it."""
    torch.set_num_threads(threads)
    require_name("dims", dims, DIMS)
    computing = torch.device(checked_device(device))
    builds = {size: works(DIMS[size], computing) for size in ("tiny", dims)}
    require_name("work", work, builds[dims])
    ways = builds["tiny"][work]()
    require_name("way", way, ways)
    ways[way]()
    ways = builds[dims][work]()
    mib = growth_mib(ways[way], device=computing)
    print(json.dumps({"work": work, "way": way, "dims": dims, "mib": mib}) if as_json else as_text(mib))


def require_name(what: str, name: str, choices: Collection[str]) -> None:
    """Raise typer.BadParameter for a name that is not among the choices.

    Args:
        what: it is a name of.
        name: given.
        choices: that there are.
    """
    if name not in choices:
        raise typer.BadParameter(f"{what}: expected {' or '.join(choices)}, got {name!r}; name one of them")


if __name__ == "__main__":
    typer.run(main)
