"""A server under fifty clients, a tenth of whose requests are malformed: no wrong answer, none lost, no growth."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from scripts.bench.random_runs import write_random_run
from scripts.bench.serve_load import bodies, server
from speechprompt.prompt_config import PromptConfig
from speechprompt.stack_folder import load_stack
from tests.speechprompt.serving import Client, Reply

SECONDS = float(os.environ.get("SPEECHPROMPT_SOAK_S", "300"))
CLIENTS, MALFORMED, N_RUNS, N_BODIES, ROWS = 50, 0.1, 8, 160, 4
MOST_GROWTH = 0.05  # of resident memory, from a fifth of the time to its end
JSON = {"content-type": "application/json"}
BROKEN = (  # a body and what it is answered with
    (b"", 422),
    (b'{"rows": [', 422),
    (b"\xff\xfe\x00", 400),
    (b'{"rows": [{"run": "task00", "units": [-1]}]}', 422),
    (b'{"rows": [{"run": "nowhere", "units": [1]}]}', 404),
    (b'{"rows": [{"run": "task00", "units": "1"}]}', 422),
    (b" " * (17 << 20), 413),
)


@dataclass
class Seen:
    """What a client saw.

    latencies_s: of answers. refused: malformed requests. later: 429s. wrong: replies that were not as they should be.
    finished: it did not raise.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    later: int = 0
    wrong: list[object] = field(default_factory=list)
    finished: bool = False


def as_expected(reply: Reply, expected: list[dict[str, object]]) -> bool:
    """Whether the labels are the same and the probabilities equal within rounding of another batch."""
    answers = reply.json["answers"]
    return len(answers) == len(expected) and all(
        answer["label"] == alone["label"] and abs(answer["probability"] - alone["probability"]) < 1e-4
        for answer, alone in zip(answers, expected, strict=True)
    )


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ask_until(
    end: float, client: Client, asked: list[tuple[bytes, list[dict[str, object]]]], seed: int, seen: Seen
) -> None:
    """One client: request after request, each answered before the next."""
    draw = random.Random(seed)
    while time.monotonic() < end:
        if draw.random() < MALFORMED:
            body, status = draw.choice(BROKEN)
            reply = client.ask("POST", "/classify-units", body, headers=JSON)
            seen.refused += 1
            if reply.status != status or not reply.problem["remedy"]:
                seen.wrong.append((body[:60], reply.status, reply.body[:200]))
            continue
        body, expected = draw.choice(asked)
        start = time.monotonic()
        reply = client.ask("POST", "/classify-units", body, headers=JSON)
        if reply.status == 429 and int(reply.headers["retry-after"]) > 0:
            seen.later += 1
        elif reply.status != 200 or not as_expected(reply, expected):
            seen.wrong.append((body[:60], reply.status, reply.body[:200]))
        else:
            seen.latencies_s.append(time.monotonic() - start)
    seen.finished = True


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the server's memory from /proc")
def test_fifty_clients_and_a_tenth_of_their_requests_malformed(tiny_stack: Path, tmp_path: Path) -> None:
    stack = load_stack(tiny_stack)
    names = [f"task{number:02d}" for number in range(N_RUNS)]
    for number, name in enumerate(names):
        write_random_run(tmp_path / name, stack, ("yes", "no", "maybe"), PromptConfig(seed=number))
    runs = ",".join(str(tmp_path / name) for name in names)
    with server(["--runs", runs]) as running:
        client, process = Client(*running.address), running.process
        sent = bodies(names, N_BODIES, ROWS, stack.spec.n_units, seed=0)
        alone = [client.ask("POST", "/classify-units", body, headers=JSON).json["answers"] for body in sent]
        seen, begin = [Seen() for _ in range(CLIENTS)], time.monotonic()
        threads = [
            threading.Thread(
                target=ask_until, args=(begin + SECONDS, client, list(zip(sent, alone, strict=True)), n, mine)
            )
            for n, mine in enumerate(seen)
        ]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 5)
        early = resident_bytes(process.pid)
        for thread in threads:
            thread.join()
        late = resident_bytes(process.pid)
        healthy = client.ask("GET", "/health")
    latencies = np.array([s for mine in seen for s in mine.latencies_s])
    report = {
        "answers": len(latencies),
        "refused": sum(mine.refused for mine in seen),
        "told to come later": sum(mine.later for mine in seen),
        "median_s": float(np.median(latencies)),
        "p99_s": float(np.quantile(latencies, 0.99)),
        "memory_mb": (early >> 20, late >> 20),
    }
    print(json.dumps(report))
    assert healthy.status == 200 and process.returncode == 0
    assert [wrong for mine in seen for wrong in mine.wrong] == []
    assert all(mine.finished for mine in seen)
    assert report["refused"] > 0.05 * report["answers"]
    assert late < early * (1 + MOST_GROWTH)
