"""The registry: every entry whole, every stack's files there, and wrong names answered with near ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechprompt.official_files import SHIPPED, find_files, official_files
from units.errors import InputError

STACKS = ("gslm-hubert100", "gslm-cpc100", "unit-mbart-mhubert1000", "pgslm")


def test_the_shipped_registry_holds_what_the_stacks_need() -> None:
    files = official_files(SHIPPED)
    assert len({file.url for file in files.values()}) == len(files) >= 70
    families = {"gslm": {"hubert", "kmeans", "gslm"}, "pgslm": {"hubert", "kmeans", "pgslm", "vocoder"}}
    for stack in STACKS:
        found = {file.family for file in find_files(stack)}
        assert families.get(stack.split("-")[0], set()) - {"hubert"} <= found
    for kind in ("hubert", "cpc", "w2v2", "logmel"):
        for n_units in (50, 100, 200):
            assert f"gslm-{kind}-km{n_units}-ulm" in files
    assert files["hubert-base-ls960-kmeans-100"].sha256 is not None
    assert files["hubert-base-ls960-kmeans-100"].n_bytes == 308_469
    assert all(file.licence for file in files.values())


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InputError, match="hubert-base-ls960"):
        find_files("hubert-base-ls96")
    with pytest.raises(InputError, match="--list"):
        find_files("§§§")


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[a]\nurl = 3\nfamily = 'x'\nlicence = 'y'",
        "[a]\nurl = 'http://host/file'",
        "[a]\nurl = 'file:///etc/passwd'\nfamily = 'x'\nlicence = 'y'",
        "['../a']\nurl = 'http://host/file'\nfamily = 'x'\nlicence = 'y'",
        "[a]\nurl = 'http://host/..'\nfamily = 'x'\nlicence = 'y'",
        "[a]\nurl = 'http://host/file'\nfamily = 'x'\nlicence = 'y'\nsha256 = 'abc'",
        "[a]\nurl = 'http://host/file'\nfamily = 'x'\nlicence = 'y'\nbytes = 0",
    ],
)
def test_a_registry_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "files.toml").write_text(text)
    with pytest.raises(InputError, match=r"files\.toml"):
        official_files(tmp_path / "files.toml")
