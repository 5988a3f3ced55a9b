"""A table on disk: table.md to read, table.json with all that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from units.atomic import atomic_path


def write_table(folder: Path, table: str, about: Mapping[str, Any]) -> None:
    """Write both into a folder, made where missing, each whole or not at all."""
    for name, text in (("table.md", table), ("table.json", json.dumps(about, indent=1) + "\n")):
        with atomic_path(folder / name) as file:
            file.write_text(text, encoding="utf-8")
