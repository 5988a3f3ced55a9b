"""The timing loop: ways to do one work take turns, so that what else the machine does hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

LEAST_ROUNDS = 5
CPU = torch.device("cpu")

Ways = Mapping[str, Callable[[], object]]  # how one work can be done, ours first, then its peers


@dataclass(frozen=True)
class Comparison:
    """Medians of several ways. seconds: of one call, by way. ratios: of the other ways' seconds to the first's."""

    seconds: dict[str, float]
    ratios: dict[str, float]
    rounds: dict[str, list[float]]


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was given; a CPU has.

    Args:
        device: that computes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(ways: Ways, rounds: int, device: torch.device = CPU) -> Comparison:
    """Call all ways in turn, `rounds` times after one round that does not count.

    Args:
        ways: ours first, then its peers.
        rounds: that count; a figure to be told needs at least LEAST_ROUNDS.
        device: that computes; it is waited for.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            wait_for(device)
            if number:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours, *peers = medians
    return Comparison(medians, {peer: medians[peer] / medians[ours] for peer in peers}, times)
