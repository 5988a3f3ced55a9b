"""What a server refuses and how, and what it tells; runs that come and go."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from scripts.bench.random_runs import write_random_run
from scripts.bench.serve_load import bodies, rows_per_s, server
from speechprompt.cli import run as run_command_line
from speechprompt.named_runs import parse_runs
from speechprompt.prompt_config import PromptConfig
from speechprompt.run_record import RECORD_FILE
from speechprompt.serve.command import new_service, read_tokens
from speechprompt.serve.engine import Question
from speechprompt.serve.errors import error_body
from speechprompt.serve.limits import Limits
from speechprompt.stack_folder import load_stack
from tests.speechprompt.serving import Client, served
from units.audio import encode_audio
from units.errors import InputError

SECOND = encode_audio(np.sin(np.arange(16000) / 9).astype(np.float32) * 0.3, 16000)
TOKENS = ("a-token-of-this-server", "another-token-of-it")
TIGHT = Limits(body_bytes=100_000, audio_s=2.0, new_s=1.0, queue=8)


@pytest.fixture(scope="module")
def folder(tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    stack = load_stack(tiny_stack)
    for seed, name in enumerate(("one", "two", "three")):
        write_random_run(folder / name, stack, ("yes", "no", "maybe"), PromptConfig(seed=seed))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    runs = [(None, str(folder / "one")), ("zwei", str(folder / "two"))]
    with served(new_service(runs, TIGHT, root=folder)) as client:
        yield client


def test_health_metrics_and_documentation(client: Client) -> None:
    assert client.ask("GET", "/health").json == {"status": "ok", "stack": "tiny", "runs": 2}
    assert client.label_units(("one", [1, 2]), ("zwei", [3]), ("one", [4])).status == 200
    families = {
        f.name: f for f in text_string_to_metric_families(client.ask("GET", "/metrics").body.decode())
    }
    answers = {
        s.labels["run"]: s.value
        for s in families["speechprompt_answers"].samples
        if s.name.endswith("_total")
    }
    assert answers["one"] >= 2
    assert answers["zwei"] >= 1
    requests = [s.labels for s in families["speechprompt_requests"].samples]
    assert {"route": "/classify-units", "status": "200"} in requests
    assert families["speechprompt_runs"].samples[0].value == 2
    paths = client.ask("GET", "/openapi.json").json["paths"]
    assert {"/classify", "/classify-units", "/continue", "/runs", "/health", "/metrics"} <= set(paths)
    assert "audio/*" in paths["/classify"]["post"]["requestBody"]["content"]
    assert client.ask("GET", "/docs").status == 200


def test_the_load_script_counts_rows_and_stops_at_a_failure(client: Client) -> None:
    sent = bodies(["one", "zwei"], n_requests=4, rows=2, n_units=100, seed=0)
    asked = [row["run"] for body in sent for row in json.loads(body)["rows"]]
    assert sorted(asked) == ["one"] * 4 + ["zwei"] * 4
    assert rows_per_s((client.host, client.port), sent, rows=2, clients=2) > 0
    with pytest.raises(SystemExit, match="1 of 1 requests failed"):
        rows_per_s((client.host, client.port), bodies(["none"], 1, 1, 100, seed=0), rows=1, clients=1)


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "status", "said"),
    [
        ("POST", "/classify", SECOND, {}, 422, ("query.run", "nothing")),
        ("POST", "/classify", SECOND, {"run": "four"}, 404, ("run", "'four'")),
        ("POST", "/classify", b"", {"run": "one"}, 422, ("audio", "no bytes")),
        ("POST", "/classify", b"RIFFnothing", {"run": "one"}, 422, ("audio", "cannot read")),
        ("POST", "/classify", SECOND * 4, {"run": "one"}, 413, ("body", "128,176")),
        ("POST", "/continue", SECOND, {"seed_s": 5, "length_s": 1}, 422, ("audio", "1.00 s")),
        ("POST", "/continue", SECOND, {"seed_s": 0.5, "length_s": 1.5}, 422, ("length_s", "1.5")),
        ("POST", "/continue", SECOND, {"seed_s": "nan"}, 422, ("seed_s", "nan")),
        ("POST", "/continue", SECOND, {"seed_s": 0.5, "length_s": 0.5, "speaker": "me"}, 422, ("", "me")),
        ("POST", "/classify-units", b"{", {}, 422, ("body", "")),
        ("GET", "/classify", None, {}, 405, ("GET /classify", "Method Not Allowed")),
        ("GET", "/nothing", None, {}, 404, ("GET /nothing", "Not Found")),
        ("DELETE", "/runs/four", None, {}, 404, ("run", "'four'")),
    ],
)
def test_what_cannot_be_answered_is_refused_with_reason_and_remedy(
    client: Client,
    method: str,
    path: str,
    body: bytes | None,
    query: dict,
    status: int,
    said: tuple[str, str],
) -> None:
    headers = {"content-type": "application/json"} if path == "/classify-units" else {}
    reply = client.ask(method, path, body, headers=headers, **query)
    assert reply.status == status, reply.body
    assert said[0] in reply.problem["what"]
    assert said[1] in reply.problem["got"]
    assert reply.problem["expected"]
    assert reply.problem["remedy"]
    assert client.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rows": []}, "body.rows"),
        ({"rows": [{"run": "one", "units": []}]}, "body.rows.0.units"),
        ({"rows": [{"run": "one", "units": [100]}]}, "units"),
        ({"rows": [{"run": "one", "units": [-1]}]}, "body.rows.0.units.0"),
        ({"rows": [{"run": "one", "units": [10**40]}]}, "body.rows.0.units.0"),
        ({"rows": [{"run": "one", "units": [1.5]}]}, "body.rows.0.units.0"),
        ({"rows": [{"run": "one", "units": [True]}]}, "body.rows.0.units.0"),
        ({"rows": [{"run": "one", "units": [1]}], "more": 1}, "body.more"),
        ({"rows": [{"run": "one", "units": [1]}] * 9}, "request"),
        ([1], "body"),
    ],
)
def test_bodies_that_are_not_rows_of_units_are_refused_by_place(
    client: Client, content: object, said: str
) -> None:
    reply = client.send_json("POST", "/classify-units", content)
    assert reply.status == 422, reply.body
    assert reply.problem["what"] == said


@settings(max_examples=60)
@given(body=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: SECOND[:60] + tail)))
def test_no_body_makes_a_server_fail(client: Client, body: bytes) -> None:
    reply = client.ask("POST", "/classify", body, run="one")
    assert reply.status in (200, 422)
    reply = client.ask("POST", "/classify-units", body, headers={"content-type": "application/json"})
    assert reply.status in (400, 422)
    assert reply.problem["remedy"]


def test_a_body_without_a_length_is_counted_as_it_comes(client: Client) -> None:
    with socket.create_connection((client.host, client.port), timeout=20) as line:
        line.sendall(b"POST /classify?run=one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            line.sendall(b"2710\r\n" + bytes(10_000) + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_slow_client_a_little_over_the_limit_sends_all_and_reads_why(client: Client) -> None:
    with socket.create_connection((client.host, client.port), timeout=20) as line:
        line.sendall(b"POST /classify?run=one HTTP/1.1\r\nHost: x\r\nContent-Length: 180000\r\n\r\n")
        for _ in range(6):
            line.sendall(bytes(30_000))
            time.sleep(0.6)  # longer than a part is waited for, all together
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_runs_come_and_go_while_others_are_answered(client: Client, folder: Path) -> None:
    assert client.label_units(("three", [1])).status == 404
    added = client.send_json("POST", "/runs", {"path": "three"})
    assert added.status == 201, added.body
    assert added.json["name"] == "three"
    assert added.json["labels"] == ["yes", "no", "maybe"]
    assert added.json["shares_batches"]
    assert client.ask("GET", "/runs/three").json == added.json
    assert [run["name"] for run in client.ask("GET", "/runs").json["runs"]] == ["one", "zwei", "three"]
    assert client.label_units(("three", [1]), ("one", [2])).status == 200
    again = client.send_json("POST", "/runs", {"path": "three"})
    assert again.status == 409
    assert client.ask("DELETE", "/runs/three").status == 204
    assert client.label_units(("three", [1])).status == 404
    assert b'run="three"' not in client.ask("GET", "/metrics").body


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../runs/one",
        "/etc",
        ".",
        "",
        "link",
        "a\0b",
        "no",
        "\ud800",
    ],
)
def test_no_run_is_added_from_outside_the_folder(
    client: Client, folder: Path, path: str, tmp_path: Path
) -> None:
    link = folder / "link"
    if not link.is_symlink():
        shutil.copytree(folder / "one", tmp_path / "elsewhere")
        link.symlink_to(tmp_path / "elsewhere")
    reply = client.send_json("POST", "/runs", {"path": path, "name": "new"})
    assert reply.status in (403, 422), reply.body
    assert (reply.status == 422) == (path == "no")
    assert len(client.ask("GET", "/runs").json["runs"]) == 2


def test_a_run_of_another_language_model_is_refused(client: Client, folder: Path) -> None:
    other = folder / "other"
    shutil.copytree(folder / "one", other)
    record = json.loads((other / RECORD_FILE).read_text())
    (other / RECORD_FILE).write_text(json.dumps({**record, "lm_fingerprint": "0" * 64}))
    reply = client.send_json("POST", "/runs", {"path": "other"})
    assert reply.status == 422
    assert "language model 000000000000" in reply.problem["expected"]


def test_tokens_are_asked_for_everywhere_but_at_the_door(folder: Path) -> None:
    service = new_service([(None, str(folder / "one"))], TIGHT)
    with served(service, tokens=TOKENS) as client:
        assert client.ask("GET", "/health").status == 200
        for method, path in (("GET", "/runs"), ("GET", "/metrics"), ("POST", "/classify"), ("GET", "/else")):
            reply = client.ask(method, path, None if method == "GET" else SECOND)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.problem["got"] == "none"
        for wrong in ("a-token-of-this-serve", "A-token-of-this-server", ""):
            assert replace(client, token=wrong).ask("GET", "/runs").status == 401
        for token in TOKENS:
            known = replace(client, token=token)
            assert known.ask("GET", "/runs").status == 200
            assert known.send_json("POST", "/runs", {"path": "two"}).status == 403  # no folder to add from


def test_a_full_queue_says_when_to_come_again_and_a_slow_answer_is_given_up(folder: Path) -> None:
    service = new_service([(None, str(folder / "one"))], replace(TIGHT, queue=2, time_s=1.0))
    held, free = threading.Event(), threading.Event()
    answer = service.engine.labels.work

    def slow(questions: list[Question]) -> object:
        held.set()
        assert free.wait(20)
        return answer(questions)

    service.engine.labels.work = slow
    with served(service) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.label_units, ("one", [1]))
        assert held.wait(20)
        second = pool.submit(client.label_units, ("one", [2]))
        while service.engine.labels.n_inside < 2:
            time.sleep(0.01)
        refused = client.label_units(("one", [3]))
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        for waited in (first.result(), second.result()):
            assert waited.status == 504
            assert "within 1 s" in waited.problem["expected"]
        free.set()
        while service.engine.labels.n_inside:
            time.sleep(0.01)
        assert client.label_units(("one", [3])).status == 200


def test_a_body_that_never_ends_is_given_up_and_requests_are_counted(folder: Path) -> None:
    service = new_service([(None, str(folder / "one"))], replace(TIGHT, requests=1, time_s=0.5))
    with served(service) as client, socket.create_connection((client.host, client.port), timeout=20) as line:
        line.sendall(b"POST /classify?run=one HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        deadline = time.monotonic() + 20
        while (reply := client.ask("GET", "/runs")).status != 429 and time.monotonic() < deadline:
            pass
        assert "1 at a time" in reply.problem["message"].replace("at most 1", "1")
        assert client.ask("GET", "/health").status == 200
        assert line.recv(100).startswith(b"HTTP/1.1 408 ")


def test_an_error_of_ours_is_no_fault_of_the_request(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = new_service([(None, str(folder / "one"))], TIGHT)

    def broken(questions: object) -> object:
        raise ZeroDivisionError("a bug")

    service.engine.labels.work = broken  # type: ignore[assignment]
    with served(service) as client:
        reply = client.label_units(("one", [1]))
        assert reply.status == 500
        assert reply.problem["got"] == "ZeroDivisionError"
        assert client.ask("GET", "/health").status == 200


def test_sigterm_loses_nothing_that_was_accepted(folder: Path) -> None:
    arguments = ["--runs", f"{folder / 'one'},b={folder / 'two'}"]
    arguments += ["--batch-wait-ms", "400"]  # so that requests wait when the signal comes
    with server(arguments) as running:
        assert running.said["runs"] == ["one", "b"]
        client = Client(*running.address)
        expected = client.label_units(("one", [1, 2, 3])).json
        with ThreadPoolExecutor(6) as pool:
            replies = [pool.submit(client.label_units, ("one", [1, 2, 3])) for _ in range(6)]
            while b"speechprompt_labels_inside 6.0" not in client.ask("GET", "/metrics").body:
                assert not any(reply.done() for reply in replies)
            running.process.send_signal(signal.SIGTERM)
            for reply in replies:
                [answer], [alone] = reply.result().json["answers"], expected["answers"]
                assert answer["label"] == alone["label"]
                assert answer["probability"] == pytest.approx(alone["probability"], abs=1e-5)
        assert running.process.wait(60) == 0


def test_the_command_line_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "tokens"
    few.write_text("# none\n\nshort\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, said in (
            (["--port", "0"], "expected --runs or --stack, got neither"),
            (["--runs", "a,,b", "--port", "0"], "expected folders or NAME=FOLDER"),
            (["--runs", str(tmp_path / "none"), "--port", "0"], "expected a run folder"),
            (["--stack", "mini", "--port", port], "expected an address to listen at"),
            (["--stack", "mini", "--port", "0", "--tokens", str(few)], "at least 16 ASCII"),
            (["--stack", "mini", "--port", "0", "--runs-root", str(few)], "expected a folder of runs"),
            (["--stack", "mini", "--port", "0", "--max-queue", "0"], "queue: expected a limit above 0"),
        ):
            assert run_command_line(["serve", *arguments]) == 2
            assert said in capsys.readouterr().err


def test_without_its_packages_the_verb_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_command_line(["serve", "--stack", "mini"]) == 2
    assert "pip install 'speechprompt[serve]'" in capsys.readouterr().err


def test_names_and_tokens_are_read_as_written(tmp_path: Path) -> None:
    assert parse_runs("runs/a, b=runs/c") == [(None, "runs/a"), ("b", "runs/c")]
    for wrong in ("=runs/a", "a=", ""):
        with pytest.raises(InputError, match="NAME=FOLDER"):
            parse_runs(wrong)
    file = tmp_path / "tokens"
    file.write_text("# ours\n" + "\n".join(TOKENS) + "\n")
    assert read_tokens(file) == list(TOKENS)
    file.write_text("#\n")
    with pytest.raises(InputError, match="got none"):
        read_tokens(file)
    with pytest.raises(InputError, match="check the path"):
        read_tokens(tmp_path / "none")


def test_an_error_of_another_form_is_given_whole() -> None:
    assert error_body("no")["error"]["message"] == "no"
    assert error_body("no")["error"]["got"] is None
    parts = error_body("a: expected b, got c; d; e")["error"]
    assert (parts["what"], parts["expected"], parts["got"], parts["remedy"]) == ("a", "b", "c; d", "e")
