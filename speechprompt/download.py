"""How a large file comes over HTTP: in pieces that outlive an interruption.

pooch's own downloader begins anew each time, and huggingface_hub resumes only what lies on its hub, so this one asks
for the rest of a file (`Range`, RFC 9110, section 14) and lets pooch do everything else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from speechprompt.official_files import OfficialFile
from units.errors import InputError

if TYPE_CHECKING:
    from requests import Response

PIECE_BYTES = 1 << 20
ATTEMPTS = 4  # in a row that bring nothing new
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class FetchError(InputError):
    """An official file that could not be fetched: no network, not there, or not what the registry names."""


class ResumingDownloader:
    """A downloader for pooch that keeps what it has in `NAME.part` and asks for the rest.

    Args:
        target: where the finished file will lie; the part lies beside it.
        file: what is expected.
        progress: show a bar, if standard error is a terminal.
        pause_s: wait so long before the second attempt, twice as long before the third, and so on.

    Attributes:
        n_bytes: length of what came last.
    """

    def __init__(
        self, target: Path, file: OfficialFile, *, progress: bool = False, pause_s: float = 0.5
    ) -> None:
        self.target, self.file, self.progress, self.pause_s = target, file, progress, pause_s
        self.part = target.with_name(target.name + ".part")
        self.validator = target.with_name(
            target.name + ".part-of"
        )  # which version of the file the part is of
        self.n_bytes = 0

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`. Raises FetchError; OSError (a full disk, say)."""
        from requests import RequestException

        failures, most = 0, self._have()
        while True:
            try:
                with self._bar() as advance:
                    done = self._continue(url, advance)
                problem = "the answer ended early"
            except RequestException as error:
                done, problem = False, _reason(error)
            if done:
                self.n_bytes = self._have()
                self.part.replace(output_file)
                return
            failures = 0 if self._have() > most else failures + 1
            most = max(most, self._have())
            if failures == ATTEMPTS:
                raise FetchError(
                    f"{self.file.name}: expected an answer from {urlsplit(url).hostname}, got {problem}; check the "
                    f"network and try again, or copy {url} to {self.target}"
                )
            time.sleep(self.pause_s * failures)

    def forget(self) -> None:
        """Remove what an unfinished download leaves."""
        self.part.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _continue(self, url: str, advance: Callable[[int, int | None], None]) -> bool:
        """Ask for what is lacking and append it; True once the file is whole."""
        import requests

        # Without a checksum to find out, a part is continued only where the server can say that it is of this version.
        of_version = self.validator.read_text(encoding="utf-8") if self.validator.is_file() else ""
        if self._have() and self.file.sha256 is None and not of_version:
            self.forget()
        have = self._have()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if of_version:
                headers["If-Range"] = of_version
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416 and have:  # nothing lies behind what we have
                if self._is_whole(have, _range_of(response)[1]):
                    return True
                self.forget()
                return False
            self._require_success(response)
            start, total = _range_of(response) if response.status_code == 206 else (0, None)
            if response.status_code == 206 and start != have:
                self.forget()
                return False
            length = response.headers.get("Content-Length", "")
            if total is None and length.isdecimal():
                total = (start or 0) + int(length)
            self._require_length(total)
            if not start:
                self._remember(response)
            advance(start or 0, total or self.file.n_bytes)
            with self.part.open("ab" if start else "wb") as part:
                for piece in response.iter_content(PIECE_BYTES):
                    part.write(piece)
                    if self.file.n_bytes is not None and part.tell() > self.file.n_bytes:
                        self._require_length(part.tell())
                    advance(part.tell(), total or self.file.n_bytes)
        return self._is_whole(self._have(), total)

    def _is_whole(self, have: int, total: int | None) -> bool:
        expected = self.file.n_bytes if self.file.n_bytes is not None else total
        return expected is None or have == expected

    def _remember(self, response: Response) -> None:
        """Note which version of the file this is, as far as the server says it in a way that holds (no weak tags)."""
        tag = response.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        self.validator.write_text(version, encoding="utf-8")

    def _require_success(self, response: Response) -> None:
        from requests import HTTPError

        status = response.status_code
        if status in (200, 206):
            return
        if status >= 500 or status in (408, 416, 429):  # may pass
            raise HTTPError(f"status {status} {response.reason}")
        raise FetchError(
            f"{self.file.name}: expected a file at {self.file.url}, got status {status} {response.reason}; it may have "
            f"moved: copy it to {self.target} from elsewhere"
        )

    def _require_length(self, total: int | None) -> None:
        if total is not None and self.file.n_bytes not in (None, total):
            self.forget()
            raise FetchError(
                f"{self.file.name}: expected {self.file.n_bytes:,} bytes at {self.file.url}, got {total:,}; try again "
                "later, and do not use a file of another length"
            )

    @contextmanager
    def _bar(self) -> Iterator[Callable[[int, int | None], None]]:
        """Give a function that shows (bytes so far, bytes in all); it does nothing where there is no terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        hidden = not (self.progress and console.is_terminal)
        with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
            task = bar.add_task(self.file.name, total=self.file.n_bytes)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _range_of(response: Response) -> tuple[int | None, int | None]:
    """First byte and total length that `Content-Range` says, None for what it does not."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    start, total = match.groups()
    return None if start is None else int(start), int(total) if total != "*" else None


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    from requests import ConnectionError, Timeout

    if isinstance(error, Timeout):
        return "no answer in time"
    if isinstance(error, ConnectionError) and "Max retries exceeded" in str(error):
        return "no connection (no network?)"
    return f"an interruption ({str(error) or type(error).__name__})"[:200]
