"""kill -9 at random moments, then the same command again: an undisturbed run's result, and no stray file.

Moments are drawn anew at every run, because the claim is about any moment; a failure names them. `make test` tries two
of them on the quantization of a corpus, `make soak` twenty (or SPEECHPROMPT_KILLS) on each verb.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from speechprompt.checkpoint import PROMPT_FILE
from speechprompt.run_record import read_record
from speechprompt.suite.cell_files import all_results
from speechprompt.training_log import read_log
from tests.speechprompt.local_server import Site, serving

ROOT = Path(__file__).resolve().parents[2]
MANY = int(os.environ.get("SPEECHPROMPT_KILLS", "20"))
WITHIN_S = 600
VERB = ["-m", "speechprompt"]


@dataclass(frozen=True)
class Job:
    """A program and what counts of its result.

    command: gives Python's arguments for an output folder. environment: likewise, beside the process's.
    result: reads what must be equal. begun: whether the output folder shows that work has begun.
    """

    command: Callable[[Path], list[str]]
    result: Callable[[Path], object]
    environment: Callable[[Path], dict[str, str]] = lambda out: {}
    begun: Callable[[Path], bool] = Path.exists

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Start the command in a group of processes of its own."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **self.environment(out)}
        command = [sys.executable, *self.command(out)]
        return subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self, out: Path) -> object:
        """Run to the end. A training that was killed after its last word says that it is finished."""
        return self.result_of(self.start(out), out, also=b"got a finished one")

    def result_of(self, process: subprocess.Popen[bytes], out: Path, also: bytes = b"\0") -> object:
        """Wait for the end, which must be a good one."""
        _, said = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0 or also in said, said.decode()
        return self.result(out)

    def wait_for_begin(self, out: Path, process: subprocess.Popen[bytes]) -> float:
        """Wait until it works, or has ended already; gives the time."""
        while not self.begun(out) and process.poll() is None:
            time.sleep(0.002)
        return time.monotonic()


def names_in(out: Path) -> set[str]:
    """Every file below a folder, but logs, whose names hold a time."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if "tfevents" not in path.name}


def assert_survives(job: Job, folder: Path, n_moments: int) -> None:
    undisturbed = folder / "undisturbed"
    process = job.start(undisturbed)
    begin = job.wait_for_begin(undisturbed, process)
    expected, names = job.result_of(process, undisturbed), names_in(undisturbed)
    span = time.monotonic() - begin
    n_killed = 0
    for number in range(n_moments):
        out, moment, whole_group = folder / str(number), random.Random().uniform(0, span), number % 2 == 0
        process = job.start(out)
        job.wait_for_begin(out, process)
        time.sleep(moment)
        if process.poll() is not None:
            assert job.result_of(process, out) == expected
            continue
        n_killed += 1
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:  # its workers live on for a while
            process.kill()
        process.communicate()
        told = f"killed {moment:.3f} s after it began, {'with' if whole_group else 'without'} its workers"
        assert job.finish(out) == expected, told
        assert names_in(out) == names, told
    assert n_killed > n_moments // 4, "most runs ended before they were killed"


CORPUS = """
import sys, time
from pathlib import Path
import numpy as np
from units.corpus import CorpusEntry, quantize_corpus
from units.types import UnitSequence, UnitSpec

class Loudness:  # quantizes without a model, so that the test need not load one
    sample_rate, spec = 16000, UnitSpec("loudness", 1, 50, 50.0, "0" * 12)

    def __call__(self, waves):
        time.sleep(0.02)
        levels = [np.abs(wave[: len(wave) // 320 * 320]).reshape(-1, 320).mean(1) for wave in waves]
        return [UnitSequence((49 * level / level.max()).astype(np.int64), self.spec) for level in levels]

audio, out = map(Path, sys.argv[1:])
quantize_corpus([CorpusEntry(f.name, f) for f in sorted(audio.glob("*.flac"))[:30]], Loudness, out, shard_size=3)
"""


def test_a_corpus(digits_sample: Path, tmp_path: Path) -> None:
    audio = next(digits_sample.rglob("*.flac")).parent
    job = Job(
        lambda out: ["-c", CORPUS, str(audio), str(out)],
        lambda out: {file.name: file.read_bytes() for file in out.iterdir()},
    )
    assert_survives(job, tmp_path, 2)


@pytest.mark.soak
def test_quantize(digits_sample: Path, tiny_stack: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "all.csv"
    with (digits_sample / "train.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[:150]
    with manifest.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerows([("path",), *((digits_sample / row["path"],) for row in rows)])
    command = [
        *VERB,
        "quantize",
        "--manifest",
        str(manifest),
        "--stack",
        str(tiny_stack),
        "--shard-size",
        "3",
    ]
    job = Job(
        lambda out: [*command, "--out", str(out), "--workers", "2"],
        lambda out: {file.name: file.read_bytes() for file in out.iterdir()},
    )
    assert_survives(job, tmp_path, MANY)


@pytest.mark.soak
def test_train(two_words: Path, tiny_stack: Path, tmp_path: Path) -> None:
    command = [
        *VERB,
        "train",
        "--task",
        "csv_classification",
        "--data",
        str(two_words),
        "--stack",
        str(tiny_stack),
    ]
    job = Job(
        lambda out: [*command, "--out", str(out), "--max-epochs", "40", "--patience", "40"],
        lambda out: (
            (out / PROMPT_FILE).read_bytes(),
            read_record(out).metrics,
            [{**epoch, "seconds": 0.0} for epoch in read_log(out)],
        ),
    )
    assert_survives(job, tmp_path, MANY)


@pytest.mark.soak
def test_suite(two_words: Path, tiny_stack: Path, tmp_path: Path) -> None:
    command = [
        *VERB,
        "suite",
        "--tasks",
        "words=csv_classification",
        "--data",
        f"words={two_words}",
        "--seeds",
        "0,1",
    ]
    command += ["--methods", "majority,ngram,prompt", "--settings", "prompt.max_epochs=4", "--workers", "2"]
    job = Job(
        lambda out: [*command, "--stack", str(tiny_stack), "--out", str(out)],
        lambda out: {
            result.cell.name: ((result.folder / "predictions.csv").read_bytes(), result.content["metrics"])
            for result in all_results(out)
        },
    )
    assert_survives(job, tmp_path, MANY)


@pytest.fixture
def slow_site() -> Iterator[Site]:
    """Serves one file of some megabytes in about a second."""
    with serving(Site({"/weights.pt": np.random.default_rng(0).bytes(8_000_000)}, seconds=1.0)) as site:
        yield site


@pytest.mark.soak
def test_fetch(slow_site: Site, tmp_path: Path) -> None:
    registry = tmp_path / "files.toml"
    fields = {"url": slow_site.url + "/weights.pt", "sha256": slow_site.sha256("/weights.pt")}
    fields |= {"family": "gslm", "licence": "MIT"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    registry.write_text("\n".join(["[weights]", *lines, 'stacks = ["all"]', ""]))
    job = Job(
        lambda out: [*VERB, "fetch", "weights"],
        lambda out: {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()},
        lambda out: {"SPEECHPROMPT_CACHE": str(out), "SPEECHPROMPT_REGISTRY": str(registry)},
        lambda out: any(out.rglob("*.part")),
    )
    assert_survives(job, tmp_path, MANY)
