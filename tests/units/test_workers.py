"""Tasks on workers that die, and jobs that share a folder; a thread pool plays the cluster where none is needed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from units import corpus, workers
from units.audio import write_audio
from units.claims import CLAIMS_FOLDER, claimed, remove_claims
from units.cluster import ClusterBackend, WorkersLostError
from units.corpus import CorpusEntry, quantize_corpus
from units.encoders.logmel import LogMelEncoder
from units.errors import InputError
from units.quantizer import CodebookQuantizer

CENTROIDS = np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype(np.float32)
make_quantizer = partial(CodebookQuantizer, LogMelEncoder(20), CENTROIDS)


class ThreadCluster:
    """Two cores; every call whose number is in `dying` loses its worker before it begins."""

    def __init__(self, n_cores: int = 2, dying: Callable[[int], bool] = lambda number: False) -> None:
        self.cores, self.dying = n_cores, dying
        self.pool = ThreadPoolExecutor(n_cores)
        self.sent = self.running = self.most = 0
        self.lock = threading.Lock()

    def send(self, call: Callable[[], object]) -> Future[object]:
        self.sent += 1
        return self.pool.submit(self._work, call, self.sent)

    def _work(self, call: Callable[[], object], number: int) -> object:
        if self.dying(number):
            raise WorkersLostError("expected a worker, got none")
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.01)
        try:
            return call()
        finally:
            with self.lock:
                self.running -= 1

    def n_cores(self) -> int:
        return self.cores

    def result(self, future: Future[object]) -> object:
        return future.result()

    def close(self) -> None:
        self.pool.shutdown()


@pytest.fixture
def on_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[ThreadCluster], ThreadCluster]:
    """Gives a function that lets a cluster answer to the backend "dask"."""

    def use(cluster: ThreadCluster) -> ThreadCluster:
        @contextmanager
        def joined(_: str, __: str | None) -> Iterator[ClusterBackend]:
            yield ClusterBackend(cluster)

        monkeypatch.setattr(workers, "joined", joined)
        return cluster

    return use


@pytest.fixture
def entries(tmp_path: Path) -> list[CorpusEntry]:
    rng = np.random.default_rng(1)
    made = []
    for index in range(12):
        path = tmp_path / "audio" / f"{index}.wav"
        write_audio(path, rng.normal(0, 0.1, rng.integers(1600, 9600)).astype(np.float32))
        made.append(CorpusEntry(f"id{index}", path))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


Use = Callable[[ThreadCluster], ThreadCluster]


@pytest.mark.parametrize(("n_cores", "n_workers", "most"), [(1, None, 1), (3, None, 3), (4, 2, 2), (4, 1, 1)])
def test_so_many_tasks_at_once_and_all_of_them_on_the_cluster(
    on_threads: Use, n_cores: int, n_workers: int | None, most: int
) -> None:
    cluster = on_threads(ThreadCluster(n_cores))
    here = threading.get_ident()
    with workers.workers("dask", None, n_workers) as run:
        threads = set(run((threading.get_ident, (), {}) for _ in range(30)))
    assert here not in threads
    assert cluster.sent == 30 and cluster.most == most


def test_tasks_are_made_only_as_workers_become_free(on_threads: Use) -> None:
    on_threads(ThreadCluster())
    made = 0

    def tasks() -> Iterator[workers.Task]:
        nonlocal made
        for made in range(1, 101):  # noqa: B007 (read below, while this goes on)
            yield time.sleep, (0.001,), {}

    with workers.workers("dask") as run:
        for done, _ in enumerate(run(tasks()), start=1):
            assert made - done <= 10


def test_what_a_task_raises_comes_through(on_threads: Use) -> None:
    on_threads(ThreadCluster())
    with workers.workers("dask") as run, pytest.raises(ZeroDivisionError):
        list(run(iter([(divmod, (1, 0), {})])))


def test_lost_workers_are_no_matter_while_shards_get_done(
    on_threads: Use, entries: list[CorpusEntry], tmp_path: Path
) -> None:
    cluster = on_threads(ThreadCluster(dying=lambda number: number % 3 == 0))
    quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=1, backend="dask")
    assert cluster.sent > 12
    quantize_corpus(entries, make_quantizer, tmp_path / "undisturbed", shard_size=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_workers_that_always_die_end_the_job(
    on_threads: Use, entries: list[CorpusEntry], tmp_path: Path
) -> None:
    on_threads(ThreadCluster(dying=lambda number: True))
    with pytest.raises(WorkersLostError):
        quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=4, backend="dask")
    assert not list((tmp_path / "out").glob("part-*"))
    assert quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=4).n_done == 12


def test_an_address_without_a_cluster_is_refused(entries: list[CorpusEntry], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="address: expected a backend that has one"):
        quantize_corpus(entries, make_quantizer, tmp_path / "out", address="127.0.0.1:6379")


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_without_an_address_is_refused(
    backend: str, entries: list[CorpusEntry], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"backend {backend}: expected the address of a cluster, got none"):
        quantize_corpus(entries, make_quantizer, tmp_path / "out", backend=backend)


@pytest.mark.parametrize(("backend", "scheme"), [("ray", ""), ("ray", "ray://"), ("dask", "tcp://")])
def test_an_address_where_no_cluster_listens_is_refused(
    backend: str, scheme: str, entries: list[CorpusEntry], tmp_path: Path
) -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{bound.getsockname()[1]}"
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(InputError, match=f"{address}: expected a {backend} cluster"),
        ):
            patch.setattr("units.cluster._LISTENS_WITHIN_S", 0.3)
            quantize_corpus(entries, make_quantizer, tmp_path / "out", backend=backend, address=address)


def test_a_claim_is_one_holders_and_ends_with_it(tmp_path: Path) -> None:
    with claimed(tmp_path, "a") as mine, claimed(tmp_path, "a") as theirs, claimed(tmp_path, "b") as other:
        assert (mine, theirs, other) == (True, False, True)
    with claimed(tmp_path, "a") as mine:
        assert mine
    remove_claims(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_claim_may_lose_its_folder_to_one_who_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir
    calls = []

    def made_and_removed(folder: Path, *args: Any, **options: Any) -> None:
        mkdir(folder, *args, **options)
        calls.append(folder)
        if len(calls) == 1:
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", made_and_removed)
    with claimed(tmp_path, "a", wait=True) as mine:
        assert mine
    assert len(calls) > 1


def test_a_shard_that_another_process_makes_is_waited_for(
    entries: list[CorpusEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be made there or, as here, never: then it is made after all."""
    out, waited = tmp_path / "out", threading.Event()
    claim = claimed(out, "part-00001.parquet")
    assert claim.__enter__()

    def sleep(_: float) -> None:
        assert sorted(file.name for file in out.glob("part-*")) == [
            f"part-0000{index}.parquet" for index in (0, 2)
        ]
        claim.__exit__(None, None, None)
        waited.set()

    monkeypatch.setattr(corpus.time, "sleep", sleep)
    assert quantize_corpus(entries, make_quantizer, out, shard_size=4).n_done == 12
    assert waited.is_set()
    assert not (out / CLAIMS_FOLDER).exists()


def test_the_same_job_started_twice_at_once_shares_the_work(
    entries: list[CorpusEntry], tmp_path: Path
) -> None:
    results: list[corpus.CorpusResult] = []
    made: list[int] = []

    class Counting(CodebookQuantizer):
        def __call__(self, waves: list[np.ndarray]) -> list:
            made.append(len(waves))
            time.sleep(0.02)
            return super().__call__(waves)

    counting = Counting(LogMelEncoder(20), CENTROIDS)

    def job() -> None:
        results.append(
            quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=1, progress=False)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("units.shards.quantizer_of", lambda _: counting)
        threads = [threading.Thread(target=job) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(results) == 2 and results[0] == results[1]
    assert sum(made) == 12  # no clip was quantized twice
    quantize_corpus(entries, make_quantizer, tmp_path / "undisturbed", shard_size=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_torn_shard_of_a_killed_worker_is_removed_by_who_makes_it_again(
    entries: list[CorpusEntry], tmp_path: Path
) -> None:
    torn = tmp_path / "out" / ".tmp-x-part-00000.parquet"
    torn.parent.mkdir()
    torn.write_bytes(b"half")
    quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=4)
    assert sorted(contents(tmp_path / "out")) == [
        "failures.csv",
        *[f"part-0000{index}.parquet" for index in range(3)],
        "plan.json",
    ]


def peak_of_job(entries: list[CorpusEntry], out: Path) -> int:
    """Bytes that Python and numpy held at most during the job, beside the list itself."""
    tracemalloc.start()
    quantize_corpus(entries, make_quantizer, out, shard_size=16, progress=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_corpus(entries: list[CorpusEntry], tmp_path: Path) -> None:
    def repeated(n: int) -> list[CorpusEntry]:
        return [CorpusEntry(f"id{index}", entries[index % 12].path) for index in range(n)]

    peak_of_job(repeated(16), tmp_path / "first")  # what is loaded once
    few, many = peak_of_job(repeated(64), tmp_path / "few"), peak_of_job(repeated(1024), tmp_path / "many")
    assert many - few < 960 * 1000  # bytes for each further file, whose wave alone has 6 to 38 thousand


LIST_BYTES = """
import sys, tracemalloc
from units.manifest import read_manifest
tracemalloc.start()
listed = read_manifest(sys.argv[1])
print(len(listed), tracemalloc.get_traced_memory()[0])
"""


def test_the_list_of_a_large_corpus_is_small(tmp_path: Path) -> None:
    """In a process of its own: paths intern their parts, and that table doubles at once (20 MB after other tests)."""
    file = tmp_path / "all.csv"
    n = 20_000
    file.write_text("path\n" + "".join(f"speaker{i % 100}/recording-{i:08d}.flac\n" for i in range(n)))
    printed = subprocess.run(
        [sys.executable, "-c", LIST_BYTES, str(file)], capture_output=True, text=True, check=True, timeout=120
    )
    listed, held = map(int, printed.stdout.split())
    assert listed == n
    assert held / n < 800  # bytes a file


NAPS = """
import time, joblib
from units.workers import workers
with workers("loky", n_workers=2) as run:
    for _ in run(joblib.delayed(time.sleep)(0.01) for _ in range(100_000)):
        print("done", flush=True)
"""


@pytest.mark.skipif(
    sys.platform == "win32", reason="a process does not learn there that its parent has ended"
)
def test_no_worker_outlives_a_killed_process() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NAPS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "done\n"
    process.kill()
    process.communicate(timeout=60)  # ends when the last of its workers has closed its end
