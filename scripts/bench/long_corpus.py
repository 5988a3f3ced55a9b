"""Memory of a corpus job while it goes through many hours of audio; Linux only.

python -m scripts.bench.long_corpus --hours 100 --out FOLDER [--dims tiny]

A few clips of noise, of 3.5 to 14 s, are listed again and again until they last as long as asked for; the job is that
of `speechprompt quantize`, in this process, with random weights. A thread looks at the resident memory
(/proc/self/status) and at the shards that are done. Writes long_corpus.json and long_corpus.svg. The list of
recordings, which a job holds in memory, is made before the first look.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from scripts.bench.audio_units import noise_waves, our_quantizer, write_encoder
from scripts.bench.cost_chart import Panel, Points, chart, described
from scripts.bench.dims import DIMS, Dims
from scripts.bench.machine import description
from scripts.bench.memory import require_name, status_kib
from scripts.bench.straight_line import fit
from units.atomic import atomic_path
from units.audio import write_audio
from units.corpus import SHARD_SIZE, quantize_corpus
from units.manifest import CorpusEntry
from units.store import shard_path

N_CLIPS, LONGEST_S = 24, 14.0
N_UNITS = 100
N_POINTS = 50  # of the drawing


@dataclass(frozen=True)
class Look:
    """One look at a running job.

    hours: of audio in finished shards. mib: resident, above what was before the job. seconds: since its start.
    """

    hours: float
    mib: float
    seconds: float


def resident_mib() -> float:
    """What is in memory now. Raises: typer.BadParameter where the kernel does not tell."""
    kib = status_kib("VmRSS")
    if kib is None:
        raise typer.BadParameter("expected a system with /proc/self/status, got another; run it on Linux")
    return kib / 1024


class Watch:
    """Looks at a running job, each time a shard is done.

    Args:
        out: the job's store.
        hours: of audio in each shard, in order.
    """

    def __init__(self, out: Path, hours: list[float]) -> None:
        self._out, self._hours, self._began = out, hours, time.monotonic()
        self._before = resident_mib()
        self._over = threading.Event()
        self.looks: list[Look] = []

    def during(self, work: Callable[[], object]) -> list[Look]:
        """Do the work and give what was seen."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            work()
        finally:
            self._over.set()
            thread.join()
        return self.looks

    def _look(self) -> None:
        done, hours, over = 0, 0.0, False
        while not over:  # once more when it is over: the last shards
            over = self._over.wait(0.02)
            before = done
            while done < len(self._hours) and shard_path(self._out, done).exists():
                hours, done = hours + self._hours[done], done + 1
            if done > before:
                self.looks.append(Look(hours, resident_mib() - self._before, time.monotonic() - self._began))


def watched(dims: Dims, hours: float, folder: Path, shard_size: int = SHARD_SIZE) -> list[Look]:
    """Quantize a corpus of `hours` hours in `folder`; what was seen, shard by shard."""
    write_encoder(folder / "encoder", dims.hubert)
    waves = noise_waves(N_CLIPS, LONGEST_S)
    clips = [folder / f"clip{i}.wav" for i in range(N_CLIPS)]
    for path, wave in zip(clips, waves, strict=True):
        write_audio(path, wave)
    lasting = [len(wave) / 16_000 / 3600 for wave in waves]
    n_entries = max(1, round(hours / (sum(lasting) / N_CLIPS)))
    entries = [CorpusEntry(str(i), path) for i, path in enumerate(islice(cycle(clips), n_entries))]
    each = list(islice(cycle(lasting), n_entries))
    in_shards = [sum(each[i : i + shard_size]) for i in range(0, n_entries, shard_size)]
    make = partial(our_quantizer, folder / "encoder", dims.layer, N_UNITS)
    out = folder / "units"
    return Watch(out, in_shards).during(
        lambda: quantize_corpus(entries, make, out, shard_size=shard_size, progress=False)
    )


def main(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write.")],
    hours: Annotated[float, typer.Option(min=2, help="Of audio.")] = 100.0,
    dims: Annotated[str, typer.Option(help=f"Dimensions of the encoder: {' or '.join(DIMS)}.")] = "tiny",
) -> None:
    """Watch the memory of a corpus job, print its line, write JSON and SVG."""
    require_name("dims", dims, DIMS)
    with TemporaryDirectory() as folder:
        looks = watched(DIMS[dims], hours, Path(folder))
    kept = looks[:: max(1, len(looks) // N_POINTS)]
    xs, ys = [look.hours for look in kept], [look.mib for look in kept]
    points = Points("quantize", ys, fit(xs, ys))
    panel = Panel("Memory of a corpus job", "hours of audio done", "MiB", "hour", xs, [points])
    print(f"{looks[-1].hours:.1f} hours in {looks[-1].seconds:.0f} s, {len(looks)} shards")
    print(described(points, "MiB", "hour"))
    print(f"most that was seen: {max(look.mib for look in looks):.0f} MiB above what was resident")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "long_corpus.json") as temporary:
        content = {"dims": dims, **description(), "looks": [asdict(look) for look in looks]}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with atomic_path(out / "long_corpus.svg") as temporary:
        temporary.write_text(chart([panel], f"encoder: dims {dims}, random weights"), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
