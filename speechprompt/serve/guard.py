"""What stands before every request: token, number of requests, size of the body, and time.

An ASGI middleware. It reads the whole body, within its limits, before the application sees any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speechprompt.serve.errors import ServeError, error_body
from speechprompt.serve.limits import Limits
from speechprompt.serve.metrics import Metrics

OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json"})  # without a token: they tell nothing of any run
# Of a refused body the next part is awaited so long: the client reads why it is refused, and no broken pipe.
_LINGER_S = 2.0


class ClientGone(Exception):
    """The client hung up before its request was whole: nobody is left to answer."""


class Guard:
    """Refuses what no request may do, and counts what every request did.

    Args:
        app: what is behind it.
        limits: of bodies, requests and time.
        metrics: where requests are counted.
        tokens: bearer tokens, any of which lets a request in; none for all requests.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, tokens: Iterable[str] = ()) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.tokens = [token.encode() for token in tokens]
        self.n_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of ASGI events pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.n_inside += 1
        try:
            await self._serve(scope, receive, counted)
        except ClientGone:
            status = 499  # as nginx counts it
        finally:
            self.n_inside -= 1
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, status or 500, time.perf_counter() - start)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._require_token(scope)
            self._require_room(scope)
            body = await self._body(scope, receive)
        except ServeError as error:
            if scope["method"] != "GET":
                await self._discard(receive)
            await _refuse(send, error)
            return
        await self.app(scope, _replay(body, receive), send)

    def _require_token(self, scope: Scope) -> None:
        if not self.tokens or scope["path"] in OPEN_PATHS:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        # All are compared, each in constant time: how long it takes tells nothing.
        matches = [hmac.compare_digest(token.strip(), known) for known in self.tokens]
        if kind.lower() != b"bearer" or not any(matches):
            raise ServeError(
                401,
                "authorization: expected a bearer token of this server, got "
                f"{'another one' if given else 'none'}; send the header Authorization: Bearer TOKEN",
            )

    def _require_room(self, scope: Scope) -> None:
        if self.n_inside > self.limits.requests and scope["path"] not in OPEN_PATHS:
            raise ServeError(
                429,
                f"requests: expected at most {self.limits.requests} at a time, got one more; "
                "try again after Retry-After seconds",
                retry_after_s=1,
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises: ServeError for one that is too large or too slow; ClientGone."""
        most = self.limits.body_bytes
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced[:20]) > most:
            raise _too_large(most, f"{int(announced[:20]):,}")
        try:
            return await asyncio.wait_for(_received(receive, most), self.limits.time_s)
        except asyncio.TimeoutError:
            raise ServeError(
                408,
                f"body: expected all of it within {self.limits.time_s:g} s, got a part; send it faster",
            ) from None

    async def _discard(self, receive: Receive) -> None:
        """Receive the rest of a body that is refused, up to twice the limit, and keep nothing.

        So a client that is a little over it sends all and reads why; one that sends more, or stops, sees the line cut.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_discarded(receive, 2 * self.limits.body_bytes), self.limits.time_s)


async def _discarded(receive: Receive, most: int) -> None:
    more = True
    while more and most >= 0:
        message = await asyncio.wait_for(receive(), _LINGER_S)
        if message["type"] == "http.disconnect":
            raise ClientGone
        most -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def _received(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large(most, "more")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most: int, got: str) -> ServeError:
    return ServeError(
        413, f"body: expected at most {most:,} bytes, got {got}; send shorter or compressed audio"
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, then whatever comes."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(send: Send, error: ServeError) -> None:
    body = json.dumps(error_body(str(error))).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers,
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
