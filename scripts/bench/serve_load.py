"""Throughput of `speechprompt serve`: one task, many tasks mixed, and their ratio, over real connections.

The server is a process of its own; clients are threads of this one, each with one connection that stays open, and rows
of units of real lengths, so that the language model is measured and not the encoder. Rounds of one task and of mixed
ones alternate, and medians are compared: what else the machine does then hits both. The runs are never trained ones:
they cost what trained ones cost.

python -m scripts.bench.serve_load --stack mini --out serve_load.json
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.bench.machine import description
from scripts.bench.random_runs import write_random_run
from speechprompt.prompt_config import PromptConfig
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack

LEAST_ROUNDS = 5
N_LABELS = (2, 4, 10, 12, 31, 35)  # of the papers' tasks; the runs take turns
UNITS = (20, 60)  # shortest and longest row: a second of speech, deduplicated


def write_runs(folder: Path, stack: Stack, n_runs: int) -> list[str]:
    """Make runs of the default prompt with different seeds and numbers of labels.

    Args:
        folder: where each has a folder of its own.
        stack: whose language model they prompt.
        n_runs: how many.
    """
    names = [f"task{number:02d}" for number in range(n_runs)]
    for number, name in enumerate(names):
        labels = [f"label {i}" for i in range(N_LABELS[number % len(N_LABELS)])]
        write_random_run(folder / name, stack, labels, PromptConfig(seed=number))
    return names


@dataclass(frozen=True)
class RunningServer:
    """address: host and port. said: the line of JSON that it began with. process: of the server."""

    address: tuple[str, int]
    said: dict[str, Any]
    process: subprocess.Popen[str]


@contextmanager
def server(arguments: Sequence[str]) -> Iterator[RunningServer]:
    """A server process while the block runs.

    Args:
        arguments: of `speechprompt serve`.
    """
    command = ["serve", "--port", "0", "--json"]
    code = f"from speechprompt.cli import main; main({[*command, *arguments]!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start, exit code {process.wait()}")
        said = json.loads(line)
        host, _, port = said["url"].removeprefix("http://").rpartition(":")
        yield RunningServer((host, int(port)), said, process)
    finally:
        process.terminate()
        process.wait(60)


def bodies(names: Sequence[str], n_requests: int, rows: int, n_units: int, seed: int) -> list[bytes]:
    """Requests of `rows` rows each, whose runs take turns.

    Args:
        names: of the runs that are asked.
        n_requests: how many.
        rows: of each.
        n_units: of the stack.
        seed: of the units; the order of runs follows from it too.
    """
    draw, order = np.random.default_rng(seed), random.Random(seed)
    asked = [names[i % len(names)] for i in range(n_requests * rows)]
    order.shuffle(asked)
    units = [draw.integers(n_units, size=draw.integers(*UNITS)).tolist() for _ in asked]
    content = [{"run": name, "units": row} for name, row in zip(asked, units, strict=True)]
    parts = [content[start : start + rows] for start in range(0, len(content), rows)]
    return [json.dumps({"rows": part}).encode() for part in parts]


def rows_per_s(address: tuple[str, int], requests: Sequence[bytes], rows: int, clients: int) -> float:
    """Rows answered in a second, all requests sent by so many clients at once.

    Args:
        address: host and port.
        requests: bodies; dealt to the clients in turn.
        rows: of each request.
        clients: threads.
    """
    failures: list[str] = []

    def work(mine: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection(*address, timeout=600)
        for body in mine:
            connection.request("POST", "/classify-units", body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                failures.append(answer.decode())
        connection.close()

    threads = [threading.Thread(target=work, args=(requests[i::clients],)) for i in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if failures:
        raise SystemExit(f"{len(failures)} of {len(requests)} requests failed: {failures[0]}")
    return len(requests) * rows / seconds


def main(
    out: Annotated[Path, typer.Option(metavar="JSON", help="File to write.")],
    stack: Annotated[str, typer.Option(help="Whose language model is asked.")] = "mini",
    tasks: Annotated[int, typer.Option(min=2, help="Runs that are mixed.")] = 64,
    clients: Annotated[int, typer.Option(min=1, help="Connections at once.")] = 16,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a round.")] = 256,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a request.")] = 8,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of each kind, after one that does not count.")
    ] = 7,
    device: Annotated[str, typer.Option(help="Where the server computes.")] = "cpu",
) -> None:
    """Measure and write JSON: rows per second of one task and of mixed ones, and the ratio of their medians."""
    if rounds < LEAST_ROUNDS:
        print(f"{rounds} rounds: a figure to be told needs at least {LEAST_ROUNDS}", file=sys.stderr)
    parts = load_stack(stack)
    speeds: dict[str, list[float]] = {"one": [], "mixed": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = write_runs(folder, parts, tasks)
        runs = ",".join(str(folder / name) for name in names)
        queue = str(clients * rows)
        with server(["--runs", runs, "--device", device, "--max-queue", queue]) as running:
            for number in range(rounds + 1):
                for kind, asked in (("one", names[:1]), ("mixed", names)):
                    sent = bodies(asked, requests, rows, parts.spec.n_units, seed=number)
                    speed = rows_per_s(running.address, sent, rows, clients)
                    if number:
                        speeds[kind].append(speed)
    medians = {kind: statistics.median(values) for kind, values in speeds.items()}
    result: dict[str, Any] = {
        "rows_per_s_one_task": medians["one"],
        f"rows_per_s_{tasks}_tasks": medians["mixed"],
        "ratio": medians["mixed"] / medians["one"],
        "rounds": speeds,
        "settings": {
            "stack": stack,
            "tasks": tasks,
            "clients": clients,
            "requests": requests,
            "rows": rows,
            "device": device,
        },
        **description(),
    }
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in list(result)[:3]}))


if __name__ == "__main__":
    typer.run(main)
