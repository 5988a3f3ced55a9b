"""A block that fails leaves what was there before; one that ends well leaves the whole result."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from units.atomic import atomic_dir, atomic_path, remove_torn_below


def test_file_appears_whole_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.tar.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.name.endswith("result.tar.gz")
        temporary.write_bytes(b"all of it")
        assert not target.exists()
    assert target.read_bytes() == b"all of it"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_block_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_path(target) as temporary:
        temporary.write_text("ne")
        raise OSError(errno.ENOSPC, "disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_results_are_as_readable_as_other_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "plain_folder").mkdir()
    with atomic_path(tmp_path / "file") as temporary:
        temporary.touch()
    with atomic_dir(tmp_path / "folder"):
        pass
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode


def test_folder_appears_whole_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "store"
    with atomic_dir(target) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("1")
        assert not target.exists()
    assert (target / "deep" / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_block_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_dir(tmp_path / "store") as temporary:
        (temporary / "a").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(FileExistsError), atomic_dir(tmp_path / "store"):
        pytest.fail("the block must not run")
    with pytest.raises(FileExistsError), atomic_dir(tmp_path / "late"):
        (tmp_path / "late").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "store"]


def test_a_full_disk_is_told_by_the_name_of_the_result(tmp_path: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(os, "fsync", full)
        with atomic_dir(target) as folder, atomic_path(folder / "deep" / "file.txt") as file:
            file.write_text("some")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(target))
    assert list(tmp_path.iterdir()) == []  # nor the folder that was made on the way


def test_errors_about_other_files_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "file.txt"):
        (tmp_path / "missing").read_text()
    assert caught.value.filename == str(tmp_path / "missing")


def test_what_kills_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {tmp_path / "result.json", tmp_path / "inner" / "a.tmp-b", tmp_path / "inner" / "tmp-c"}
    (tmp_path / "inner").mkdir()
    for file in kept:
        file.touch()
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "inner" / "log.csv") as temporary:
        torn = temporary.with_name(temporary.name.replace("-log", "2-log"))  # one that was not tidied up
        torn.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_dir(tmp_path / "folder") as folder:
        (folder.with_name(f"{folder.name}2") / "inner").mkdir(parents=True)
        raise KeyboardInterrupt
    assert torn.is_file()
    remove_torn_below(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {tmp_path / "inner"}
