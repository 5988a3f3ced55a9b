"""What a figure was measured on."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import torch

from scripts.bench.alternating import CPU, LEAST_ROUNDS
from speechprompt.train_config import TrainConfig

_CPUINFO = Path("/proc/cpuinfo")


def processor_model() -> str:
    """The processor's name as the kernel tells it, else as Python does, else its architecture."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), "") or platform.processor() or platform.machine()


def description() -> dict[str, str | int]:
    """Versions, processor and threads, for a result's JSON."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor_model(),
        "threads": torch.get_num_threads(),
    }


def uses_bf16(device: torch.device = CPU) -> bool:
    """Whether ours multiplies in bfloat16 there, as `train` decides it.

    Args:
        device: that computes.
    """
    return TrainConfig().uses_bf16(device)


def ready(rounds: int, threads: int, device: torch.device = CPU) -> dict[str, str | int]:
    """Set the threads, warn of too few rounds, and describe what is measured on, bfloat16 included.

    Args:
        rounds: that count.
        threads: of the processor.
        device: that computes.
    """
    if rounds < LEAST_ROUNDS:
        print(f"{rounds} rounds: a figure to be told needs at least {LEAST_ROUNDS}", file=sys.stderr)
    torch.set_num_threads(threads)
    card = {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return description() | card | {"bf16": uses_bf16(device)}
