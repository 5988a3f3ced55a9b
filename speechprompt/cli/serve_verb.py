"""The verb serve: many runs over one language model, behind HTTP."""

from __future__ import annotations

import importlib.util
import ipaddress
import sys
from pathlib import Path
from typing import Annotated

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Device, Json, Precision

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def serve(
    runs: Annotated[
        str, typer.Option(metavar="A,B", help="Folders of runs; NAME=FOLDER gives one another name.")
    ] = "",
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The stack; by default the one of the first run.", show_default=False
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    runs_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Let clients add runs from this folder.", show_default=False),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Bearer tokens, one per line; without it no token is asked for.",
            show_default=False,
        ),
    ] = None,
    max_body_mib: Annotated[float, typer.Option(help="Most MiB of a request.")] = 16.0,
    max_audio_s: Annotated[float, typer.Option(help="Most seconds of a recording.")] = 60.0,
    max_new_s: Annotated[float, typer.Option(help="Most seconds of new speech.")] = 20.0,
    max_queue: Annotated[int, typer.Option(help="Most recordings or rows that wait; then: 429.")] = 1024,
    max_requests: Annotated[int, typer.Option(help="Most requests at a time; then: 429.")] = 256,
    timeout_s: Annotated[
        float, typer.Option(help="Most seconds for a body to come, and for its answer.")
    ] = 60.0,
    batch_tokens: Annotated[int, typer.Option(help="Tokens answered together.")] = 8192,
    batch_wait_ms: Annotated[float, typer.Option(help="How long a batch with room waits for more.")] = 3.0,
    device: Device = "cpu",
    precision: Precision = "float32",
    as_json: Json = False,
) -> None:
    """Answer for many runs over one language model, until Ctrl-C or SIGTERM.

    Requests for different tasks share batches. http://HOST:PORT/docs shows the interface.

    Example: speechprompt serve --runs runs/my_words,runs/digits --port 8000
    """
    from units.errors import InputError

    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serve: expected the packages of the extra serve, got none of {', '.join(missing)}; "
            "pip install 'speechprompt[serve]'"
        )
    from speechprompt.named_runs import parse_runs
    from speechprompt.serve.command import (
        Server,
        listening_socket,
        new_service,
        read_tokens,
        run_server,
    )
    from speechprompt.serve.limits import Limits

    limits = Limits(
        body_bytes=round(max_body_mib * 2**20),
        audio_s=max_audio_s,
        new_s=max_new_s,
        queue=max_queue,
        requests=max_requests,
        time_s=timeout_s,
        batch_tokens=batch_tokens,
        wait_s=batch_wait_ms / 1000,
    )
    known = read_tokens(tokens) if tokens is not None else []
    folders = parse_runs(runs) if runs else []
    listening = listening_socket(host, port)
    with listening:
        service = new_service(
            folders, limits, stack=stack, device=device, precision=precision, root=runs_root
        )
        if not known and not is_local(host):
            print(f"{host}: anyone who reaches it is answered; --tokens asks for a token", file=sys.stderr)
        address = listening.getsockname()
        url = f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}"
        names = [served.name for served in service.runs]

        def ready() -> None:
            emit(
                {"url": url, "runs": names},
                f"{url}: {len(names)} runs on stack {service.runs.stack_name}; {url}/docs; Ctrl-C ends it",
                as_json=as_json,
            )
            sys.stdout.flush()

        run_server(Server(service, tokens=known, ready=ready), listening)


def is_local(host: str) -> bool:
    """Whether an address is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
