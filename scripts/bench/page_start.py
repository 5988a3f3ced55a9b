"""How long a visitor waits for `speechprompt demo`: from the command to a page that answers.

    python -m scripts.bench.page_start --stack mini

Each start is a process of its own, every model loaded before it says its address; one that does not count goes before.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Annotated
from urllib.request import urlopen

import typer

LEAST_STARTS = 5


def start_s(stack: str) -> float:
    """Seconds from the command to the page's first answer; the page is ended again.

    Raises: subprocess.CalledProcessError where it ends before it has said an address.
    """
    command = [sys.executable, "-m", "speechprompt", "demo", "--stack", stack, "--port", "0", "--json"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        try:
            said = page.stdout.readline()
            if not said:
                raise subprocess.CalledProcessError(page.wait(), command)
            with urlopen(json.loads(said)["url"]) as answer:
                answer.read()
            return time.perf_counter() - begun
        finally:
            page.terminate()  # also where it does not answer: leaving the block waits for its end


def main(
    stack: Annotated[str, typer.Option(help="Name of a bundled stack, or a stack's folder.")] = "mini",
    starts: Annotated[
        int, typer.Option(min=LEAST_STARTS, help="Starts that count; their median is told.")
    ] = LEAST_STARTS,
) -> None:
    """Print the median of the seconds from the command to the page's first answer, and each start's."""
    start_s(stack)
    seconds = [start_s(stack) for _ in range(starts)]
    print(
        f"{statistics.median(seconds):.1f} seconds to start (each: {', '.join(f'{s:.1f}' for s in seconds)})"
    )


if __name__ == "__main__":
    typer.run(main)
