"""Where files lie that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Give the folder for files that can be made again: $SPEECHPROMPT_CACHE, else ~/.cache/speechprompt."""
    chosen = os.environ.get("SPEECHPROMPT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "speechprompt"
