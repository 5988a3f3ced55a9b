"""From the command line's words to a running server, and its end: what was accepted is answered first."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from speechprompt.serve.app import new_app
from speechprompt.serve.limits import Limits
from speechprompt.serve.runs import Runs
from speechprompt.serve.service import Service
from units.errors import InputError

SHORTEST_TOKEN = 16
_CLOSING_S = 5


def read_tokens(file: Path) -> list[str]:
    """Tokens of a file, one per line; empty lines and those that begin with # are passed over.

    Raises InputError: no such file, no token in it, or one that is short or not ASCII without spaces.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: expected a file of tokens, got {error}; check the path") from error
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise InputError(f"{file}: expected a token in a line, got none; write one, or leave out --tokens")
    for token in tokens:
        if len(token) < SHORTEST_TOKEN or not token.isascii() or len(token.split()) > 1:
            raise InputError(
                f"{file}: expected tokens of at least {SHORTEST_TOKEN} ASCII characters without spaces, got a token "
                f"of {len(token)} or with others; draw one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
    return tokens


def new_service(
    runs: Sequence[tuple[str | None, str]],
    limits: Limits,
    *,
    stack: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    root: Path | None = None,
) -> Service:
    """A service that is ready to answer: runs opened, models loaded. Raises: as `Runs.add`; InputError for neither."""
    if not runs and stack is None:
        raise InputError("serve: expected --runs or --stack, got neither; name a run or a stack")
    if root is not None and not root.is_dir():
        raise InputError(f"{root}: expected a folder of runs, got no such folder; check --runs-root")
    served = Runs(stack, device=device, precision=precision, root=root)
    for name, folder in runs:
        served.add(folder, name)
    service = Service(served, limits)
    service.engine.warm_up()
    return service


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises InputError where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{host}:{port}: expected an address to listen at, got {error}; choose another --host or --port"
        ) from error


class Server(uvicorn.Server):
    """Answers for a service until it is told to stop; then takes no more, and finishes what was accepted.

    Args:
        service: closed at the end.
        tokens: any of them lets a request in; none for all requests.
        ready: called once requests are answered.
    """

    def __init__(
        self, service: Service, *, tokens: Sequence[str] = (), ready: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                new_app(service, tokens=tokens),
                lifespan="on",
                http="h11",
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=math.ceil(2 * service.limits.time_s) + _CLOSING_S,
            )
        )
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer at sockets that listen already."""
        await super().startup(sockets)
        self.ready()


def run_server(server: Server, listening: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C; returns, or exits with 0, once all that was accepted is answered."""

    def ended(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, ended)  # uvicorn repeats the signal once it has finished
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
