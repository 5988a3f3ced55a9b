"""Speed and memory beside the plain ways, on one machine, printed and as JSON.

Seconds are medians of ways that take turns in one process; peaks of memory are measured in a process for each way. Of
ours it is also told how near it comes to the rate of one large product. A work's lines are printed when it is done;
with GSLM's dimensions all take half an hour on two cores.

python -m scripts.bench --out bench.json [--dims gslm|mini|tiny] [--rounds 7] [--device cuda]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from scripts.bench.alternating import Comparison, alternate
from scripts.bench.dims import DIMS
from scripts.bench.machine import ready
from scripts.bench.matrix_rate import matrix_rate, operations
from scripts.bench.memory import as_text, growth_in_child, require_name
from scripts.bench.works import works
from speechprompt.cli.options import checked_device
from units.atomic import atomic_path


def lines(name: str, result: Comparison, mib: Mapping[str, float | None], share: float) -> list[str]:
    """What a reader sees of one work: a line for each peer, and one of the rate that ours reaches.

    Args:
        name: of the work.
        result: its seconds.
        mib: growth of the peak of memory, by way.
        share: of the rate of one large product.
    """
    ours = next(iter(result.seconds))
    beside = [
        f"{name:24}{ratio:7.2f} times as fast as {peer:30}"
        f"memory: ours {as_text(mib[ours])}, theirs {as_text(mib[peer])}"
        for peer, ratio in result.ratios.items()
    ]
    return [*beside, f"{name:24}{share:7.0%} of the rate of one large product"]


def main(
    out: Annotated[Path, typer.Option(metavar="JSON", help="File to write.")],
    dims: Annotated[str, typer.Option(help=f"Dimensions: {' or '.join(DIMS)}.")] = "gslm",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds after one that does not count.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where to compute: cpu or cuda.")] = "cpu",
) -> None:
    """Measure, print the ratios of seconds and the MiB, and write JSON."""
    require_name("dims", dims, DIMS)
    computing = torch.device(checked_device(device))
    machine = ready(rounds, threads, computing)
    kind = "bfloat16" if machine["bf16"] else "float32, for want of bfloat16 in hardware"
    rate = matrix_rate(computing, bool(machine["bf16"]), rounds)
    print(
        f"{machine.get('device', machine['processor'])}, {threads} threads, dims {dims}; ours multiplies in {kind}"
    )
    print(f"one large product: {rate / 1e9:,.0f} GFLOP a second", flush=True)
    results = {}
    for name, build in works(DIMS[dims], computing).items():
        ways = build()
        result = alternate(ways, rounds, computing)
        counted = operations(ways["ours"])
        mib = {way: growth_in_child(dims, name, way, threads, device) for way in result.seconds}
        share = counted / result.seconds["ours"] / rate
        print("\n".join(lines(name, result, mib, share)), flush=True)
        results[name] = {**asdict(result), "mib": mib, "operations": counted, "share_of_rate": share}
    content = {"dims": dims, **machine, "matrix_rate": rate, "results": results}
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
