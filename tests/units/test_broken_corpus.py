"""Of two thousand recordings one in a hundred is broken: the rest is right, the broken are listed with reasons."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from units.audio import encode_audio
from units.audio_bytes import decode_audio
from units.corpus import FAILURES_FILE, CorpusEntry, quantize_corpus
from units.encoders.logmel import LogMelEncoder
from units.quantizer import CodebookQuantizer
from units.store import UnitStore

N_FILES, ONE_IN = 2_000, 100
CENTROIDS = np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype(np.float32)
make_quantizer = partial(CodebookQuantizer, LogMelEncoder(20), CENTROIDS)


def with_not_a_number(content: bytes) -> bytes:
    """A recording of a tenth of a second in floats, one of which is not a number."""
    wave, file = np.zeros(1_600, dtype=np.float32), io.BytesIO()
    wave[400] = np.nan
    soundfile.write(file, wave, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


BREAK: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {  # and what the reason says
    "gone": (lambda content: None, "got no such file"),
    "empty": (lambda content: b"", "got an empty file"),
    "text": (lambda content: b"<html>404 Not Found</html>", "Format not recognised"),
    "cut in its header": (lambda content: content[:20], "Malformed"),
    "without samples": (lambda content: content[:44], "got 0 samples"),
    "not a number": (with_not_a_number, "got 1 NaN or infinite"),
}


def test_one_broken_file_in_a_hundred(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    entries, broken, contents = [], {}, {}
    for n in range(N_FILES):
        path = tmp_path / "audio" / f"{n % 7}" / f"{n}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = rng.normal(0, 0.1, int(rng.integers(1_600, 6_400))).astype(np.float32)
        content: bytes | None = encode_audio(wave, 16_000)
        contents[str(n)] = content
        if n % ONE_IN == 37:
            kind = list(BREAK)[n // ONE_IN % len(BREAK)]
            broken[str(path)], content = kind, BREAK[kind][0](contents[str(n)])
        if content is not None:
            path.write_bytes(content)
        entries.append(CorpusEntry(str(n), path))
    result = quantize_corpus(entries, make_quantizer, tmp_path / "out", shard_size=300, progress=False)

    assert [path for path, _ in result.failures] == list(broken)
    for path, reason in result.failures:
        assert path in reason and BREAK[broken[path]][1] in reason, (broken[path], reason)
    with (tmp_path / "out" / FAILURES_FILE).open(encoding="utf-8", newline="") as lines:
        listed = [(row["path"], row["reason"]) for row in csv.DictReader(lines)]
    assert listed == result.failures
    store, quantizer = UnitStore(tmp_path / "out"), make_quantizer()
    rows = list(store.rows())
    assert [row.id for row in rows] == [e.id for e in entries if str(e.path) not in broken]
    for row in rows:
        [expected] = quantizer([decode_audio(contents[row.id], max_s=1.0)])
        np.testing.assert_array_equal(store.sequence(row).expand().units, expected.units)
