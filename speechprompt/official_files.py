"""The registry of official files: what is published where, with which checksum, licence and use.

It ships as `assets/official_files.toml`; $SPEECHPROMPT_REGISTRY names another file of the same form, for a mirror say.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from units.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "assets" / "official_files.toml"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class OfficialFile:
    """One published file.

    Attributes:
        name: what `speechprompt fetch` calls it; also its folder in the cache.
        url: where it is published.
        family: which converter reads it: "gslm", "hubert", "kmeans", "cpc", "pgslm", "unit_mbart", "vocoder".
        licence: the publisher's.
        stacks: names of the stacks it is part of.
        sha256: of the whole file, where the publisher or the field's toolkits state it.
        n_bytes: its length, where known.
    """

    name: str
    url: str
    family: str
    licence: str
    stacks: tuple[str, ...] = ()
    sha256: str | None = None
    n_bytes: int | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(urlsplit(self.url).path).name

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the keys of the registry file, and the name."""
        content = {"url": self.url, "sha256": self.sha256, "bytes": self.n_bytes, "family": self.family}
        return {"name": self.name, **content, "licence": self.licence, "stacks": list(self.stacks)}


def official_files(path: str | Path | None = None) -> dict[str, OfficialFile]:
    """Read the registry: name to file, in its order.

    path: None for $SPEECHPROMPT_REGISTRY, else the one that ships with the package.
    Raises InputError: no such file, not TOML, or an entry that is not one.
    """
    chosen = path or os.environ.get("SPEECHPROMPT_REGISTRY") or SHIPPED
    file = Path(chosen)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{file}: expected a registry of official files in TOML, got {error}; unset SPEECHPROMPT_REGISTRY"
        ) from error
    return {name: _entry(file, name, values) for name, values in content.items()}


def find_files(name: str) -> list[OfficialFile]:
    """Find the file of this name, or the files of that stack. Raises InputError naming the nearest names."""
    files = official_files()
    if name in files:
        return [files[name]]
    of_stack = [file for file in files.values() if name in file.stacks]
    if of_stack:
        return of_stack
    known = [*files, *stack_file_names(files)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"is it {' or '.join(near)}?" if near else "see `speechprompt fetch --list`"
    raise InputError(f"{name}: expected the name of an official file or stack, got neither; {hint}")


def stack_file_names(files: Mapping[str, OfficialFile]) -> list[str]:
    """Names of the stacks that some file belongs to, sorted."""
    return sorted({stack for file in files.values() for stack in file.stacks})


def _entry(file: Path, name: str, values: Any) -> OfficialFile:
    try:
        entry = OfficialFile(
            name=name,
            url=values["url"],
            family=values["family"],
            licence=values["licence"],
            stacks=tuple(values.get("stacks", ())),
            sha256=values.get("sha256"),
            n_bytes=values.get("bytes"),
        )
        sound = (
            _NAME.fullmatch(name) is not None
            and urlsplit(entry.url).scheme in ("http", "https")
            and _NAME.fullmatch(entry.file_name) is not None
            and (entry.sha256 is None or _SHA256.fullmatch(entry.sha256) is not None)
            and (entry.n_bytes is None or entry.n_bytes > 0)
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{file}: expected url, family and licence for {name}, got {error!r}; mend it"
        ) from error
    if not sound:
        raise InputError(
            f"{file}: expected for {name} a plain name, an http(s) url of a file, a sha256 of 64 hex digits and bytes "
            "above 0, got another; mend it"
        )
    return entry
