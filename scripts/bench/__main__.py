"""Speed and memory beside the plain ways, on one machine, printed and as JSON.

Seconds are medians of ways that take turns in one process; peaks of memory are measured in a process for each way. A
work's line is printed when it is done; with GSLM's dimensions all take half an hour.

python -m scripts.bench --out bench.json [--dims gslm|mini|tiny] [--rounds 7]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scripts.bench.alternating import Comparison, alternate
from scripts.bench.dims import DIMS
from scripts.bench.machine import ready
from scripts.bench.memory import as_text, growth_in_child, require_name
from scripts.bench.works import works
from units.atomic import atomic_path


def lines(name: str, result: Comparison, mib: Mapping[str, float | None]) -> list[str]:
    """What a reader sees of one work: a line for each peer.

    Args:
        name: of the work.
        result: its seconds.
        mib: growth of the peak of memory, by way.
    """
    ours = next(iter(result.seconds))
    return [
        f"{name:24}{ratio:7.2f} times as fast as {peer:30}"
        f"memory: ours {as_text(mib[ours])}, theirs {as_text(mib[peer])}"
        for peer, ratio in result.ratios.items()
    ]


def main(
    out: Annotated[Path, typer.Option(metavar="JSON", help="File to write.")],
    dims: Annotated[str, typer.Option(help=f"Dimensions: {' or '.join(DIMS)}.")] = "gslm",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds after one that does not count.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Measure, print the ratios of seconds and the MiB, and write JSON."""
    require_name("dims", dims, DIMS)
    machine = ready(rounds, threads)
    kind = "bfloat16" if machine["bf16"] else "float32, for want of bfloat16 in hardware"
    print(f"{machine['processor']}, {threads} threads, dims {dims}; ours multiplies in {kind}")
    results = {}
    for name, build in works(DIMS[dims]).items():
        result = alternate(build(), rounds)
        mib = {way: growth_in_child(dims, name, way, threads) for way in result.seconds}
        print("\n".join(lines(name, result, mib)), flush=True)
        results[name] = {**asdict(result), "mib": mib}
    content = {"dims": dims, **machine, "results": results}
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
