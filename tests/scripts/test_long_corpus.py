"""The watch over a long corpus job sees every shard, and the hours that were asked for."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from scripts.bench import long_corpus
from scripts.bench.dims import DIMS
from scripts.bench.memory import status_kib

pytestmark = pytest.mark.skipif(status_kib("VmRSS") is None, reason="needs Linux's /proc/self/status")


def test_every_shard_is_seen_with_its_hours(tmp_path: Path) -> None:
    looks = long_corpus.watched(DIMS["tiny"], 0.1, tmp_path, shard_size=8)
    hours = [look.hours for look in looks]
    assert hours == sorted(set(hours)) and hours[-1] == pytest.approx(0.1, rel=0.1)
    assert [look.seconds for look in looks] == sorted(look.seconds for look in looks)
    assert len(list((tmp_path / "units").glob("part-*.parquet"))) >= len(looks) > 1


def test_a_job_that_fails_ends_the_watch(tmp_path: Path) -> None:
    watch = long_corpus.Watch(tmp_path, [1.0])
    with pytest.raises(OSError, match="broken"):
        watch.during(lambda: (_ for _ in ()).throw(OSError("broken")))
    assert watch.looks == []


def test_it_writes_what_a_reader_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long_corpus.main(tmp_path / "out", hours=1.3, dims="tiny")
    assert "hours in" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "long_corpus.json").read_text())
    assert content["looks"] and content["processor"]
    ElementTree.parse(tmp_path / "out" / "long_corpus.svg")
