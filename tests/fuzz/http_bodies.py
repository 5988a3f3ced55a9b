"""A server's answers to bodies of requests, as readers: what it cannot use it refuses, and nothing makes it fail."""

from __future__ import annotations

import functools
from pathlib import Path

from starlette.testclient import TestClient

from scripts.bench.random_runs import write_random_run
from speechprompt.prompt_config import PromptConfig
from speechprompt.serve.app import new_app
from speechprompt.serve.command import new_service
from speechprompt.serve.limits import Limits
from speechprompt.stack_folder import load_stack
from tests.conftest import build_tiny_stack
from units.errors import InputError

LIMITS = Limits(body_bytes=30_000, audio_s=2.0, new_s=0.5, queue=8)
ROWS = b'{"rows": [{"run": "yes-no", "units": [1, 2, 99]}, {"run": "yes-no", "units": [7]}]}'
REFUSALS = (400, 404, 413, 422)


def prepare(folder: Path) -> None:
    """A stack in small and a run on it."""
    stack = load_stack(build_tiny_stack(folder / "stack"))
    write_random_run(folder / "runs" / "yes-no", stack, ("yes", "no"), PromptConfig())


@functools.cache
def _client(folder: Path) -> TestClient:
    """Of a server that lives as long as the process."""
    service = new_service([(None, str(folder / "runs" / "yes-no"))], LIMITS)
    return TestClient(new_app(service), raise_server_exceptions=False)


def ask(content: bytes, folder: Path, path: str, content_type: str) -> object:
    """What the server answers. Raises InputError where it refuses; AssertionError where it fails."""
    reply = _client(folder).post(path, content=content, headers={"content-type": content_type})
    if reply.status_code in REFUSALS:
        raise InputError(reply.json()["error"]["what"])
    assert reply.status_code == 200, (reply.status_code, reply.text)
    return reply.content
