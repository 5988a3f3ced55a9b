"""Fetching over a bad line: what arrives is the right file or nothing, and nothing that came is asked for twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from speechprompt import download
from speechprompt.cli import run
from speechprompt.hub import FetchError, cached_path, fetch, fetch_file
from speechprompt.official_files import OfficialFile
from tests.speechprompt.local_server import Site, serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
PATH = "/models/weights.pt"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PIECE_BYTES", 1 << 16)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with serving(Site({PATH: CONTENT})) as served:
        yield served


def entry(site: Site, *, checked: bool = True, n_bytes: int | None = None) -> OfficialFile:
    sha256 = site.sha256(PATH) if checked else None
    return OfficialFile("weights", site.url + PATH, "gslm", "MIT", sha256=sha256, n_bytes=n_bytes)


def left_over(file: OfficialFile) -> set[str]:
    return {path.name for path in cached_path(file).parent.iterdir()} - {".lock"}


def ranges(site: Site) -> list[str | None]:
    return [asked for _, asked in site.requests]


@pytest.mark.parametrize("checked", [True, False])
def test_a_file_is_fetched_once(site: Site, checked: bool) -> None:
    file = entry(site, checked=checked)
    path = fetch_file(file)
    assert path == cached_path(file)
    assert path.read_bytes() == CONTENT
    assert fetch_file(file) == path
    assert len(site.requests) == 1
    assert left_over(file) == {"weights.pt"}


@pytest.mark.parametrize("checked", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(site: Site, checked: bool) -> None:
    site.etag = '"v1"'
    site.break_after = {0: 1_000_000, 1: 500_000}
    assert fetch_file(entry(site, checked=checked)).read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for asked in ranges(site)[1:] if asked is not None]
    assert len(starts) == 2
    assert 900_000 <= starts[0] < starts[1] <= 1_500_000


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site: Site) -> None:
    site.break_after = {0: 1_000_000, **{number: 0 for number in range(1, download.ATTEMPTS + 1)}}
    file = entry(site)
    with pytest.raises(FetchError, match=r"weights: .*127\.0\.0\.1.*try again"):
        fetch_file(file)
    assert not cached_path(file).exists()
    assert "weights.pt.part" in left_over(file)
    torn = cached_path(file).with_name("tmpkwlr04a9")  # what pooch leaves where it is killed
    torn.touch()
    assert fetch_file(file).read_bytes() == CONTENT
    assert not torn.exists()
    assert all(asked is not None for asked in ranges(site)[1:])


def test_a_server_that_ignores_ranges_is_read_from_the_start(site: Site) -> None:
    site.ranges = False
    site.break_after = {0: 1_000_000}
    assert fetch_file(entry(site)).read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_a_server_that_answers_another_range_is_read_from_the_start(site: Site) -> None:
    site.wrong_start = 10
    site.break_after = {0: 1_000_000}
    assert fetch_file(entry(site)).read_bytes() == CONTENT
    assert ranges(site)[-1] is None


def test_a_file_that_changed_meanwhile_is_read_from_the_start(site: Site) -> None:
    site.etag = '"v1"'
    site.break_after = {0: 1_000_000, **{number: 0 for number in range(1, download.ATTEMPTS + 1)}}
    file = entry(site, checked=False)
    with pytest.raises(FetchError):
        fetch_file(file)
    site.files[PATH], site.etag = CONTENT[::-1], '"v2"'
    assert fetch_file(file).read_bytes() == CONTENT[::-1]


def test_without_checksum_and_version_nothing_is_continued(site: Site) -> None:
    site.break_after = {0: 1_000_000}
    assert fetch_file(entry(site, checked=False)).read_bytes() == CONTENT
    assert ranges(site) == [None, None]


def test_a_whole_part_is_not_fetched_again(site: Site) -> None:
    file = entry(site)
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).with_name("weights.pt.part").write_bytes(CONTENT)
    assert fetch_file(file).read_bytes() == CONTENT


@pytest.mark.parametrize("announce", [1000, -1000])
@pytest.mark.parametrize("n_bytes", [None, len(CONTENT)])
def test_a_server_that_lies_about_the_length_is_refused(
    site: Site, announce: int, n_bytes: int | None
) -> None:
    site.announce = announce
    file = entry(site, n_bytes=n_bytes)
    with pytest.raises(FetchError, match="weights: "):
        fetch_file(file)
    assert not cached_path(file).exists()
    site.announce = 0
    assert fetch_file(file).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), 1000])
@pytest.mark.parametrize("n_bytes", [None, len(CONTENT)])
def test_a_wrong_file_is_refused_and_not_kept(site: Site, size: int, n_bytes: int | None) -> None:
    file = entry(site, n_bytes=n_bytes)
    site.files[PATH] = CONTENT[::-1][:size]
    with pytest.raises(FetchError, match="sha256|bytes"):
        fetch_file(file)
    assert not left_over(file) & {"weights.pt", "weights.pt.part"}
    site.files[PATH] = CONTENT
    assert fetch_file(file).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_replaced(site: Site) -> None:
    file = entry(site)
    fetch_file(file).write_bytes(CONTENT[:-1] + b"?")
    assert fetch_file(file).read_bytes() == CONTENT
    assert len(site.requests) == 2


@pytest.mark.parametrize(("status", "n_requests"), [(404, 1), (403, 1), (503, download.ATTEMPTS)])
def test_a_refusal_is_told_in_one_line(site: Site, status: int, n_requests: int) -> None:
    site.status = status
    file = entry(site)
    with pytest.raises(FetchError, match=f"{status}") as caught:
        fetch_file(file)
    assert "\n" not in str(caught.value)
    assert str(cached_path(file)) in str(caught.value)  # where to put it by hand
    assert len(site.requests) == n_requests


def test_no_network_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with serving(Site()) as gone:
        url = gone.url
    with pytest.raises(FetchError, match=r"no connection \(no network\?\)") as caught:
        fetch_file(OfficialFile("weights", f"{url}/x.pt", "gslm", "MIT"))
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_made_is_told(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match="SPEECHPROMPT_CACHE"):
        fetch_file(entry(site))


def write_registry(site: Site, path: Path) -> None:
    path.write_text(
        f'[weights]\nurl = "{site.url}{PATH}"\nsha256 = "{site.sha256(PATH)}"\nfamily = "gslm"\nlicence = "MIT"\n'
        f'stacks = ["all"]\n[other]\nurl = "{site.url}/o.bin"\nfamily = "kmeans"\nlicence = "MIT"\nstacks = ["all"]\n'
    )


def test_two_processes_at_once_fetch_once(site: Site, tmp_path: Path) -> None:
    write_registry(site, tmp_path / "files.toml")
    site.delay_s = 1.5
    environment = {
        **os.environ,
        "SPEECHPROMPT_REGISTRY": str(tmp_path / "files.toml"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "speechprompt", "fetch", "weights", "--json"]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")  # and no progress bar: this is no terminal
        assert Path(json.loads(out)["files"]["weights"]).read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_the_verb_lists_and_fetches_stacks(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_registry(site, tmp_path / "files.toml")
    site.files["/o.bin"] = b"other"
    monkeypatch.setenv("SPEECHPROMPT_REGISTRY", str(tmp_path / "files.toml"))
    assert run(["fetch", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["files"]
    assert [(file["name"], file["cached"]) for file in listed] == [("weights", False), ("other", False)]
    assert run(["fetch", "all"]) == 0
    assert capsys.readouterr().err == ""
    assert [path.read_bytes() for path in fetch("all")] == [CONTENT, b"other"]
    assert run(["fetch", "--list"]) == 0
    assert capsys.readouterr().out.count("* ") == 2
    for wrong in (["fetch"], ["fetch", "wieghts"], ["fetch", "weights", "--list"]):
        assert run(wrong) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
