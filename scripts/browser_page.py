"""A page in the system's Chromium, and pictures of it that are small enough for the docs."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from units.errors import InputError

_COLOURS = 96


@contextmanager
def browser_page(browser: str, viewport: ViewportSize) -> Iterator[Page]:
    """A page while the block runs.

    Args:
        browser: Chromium's command.
        viewport: width and height in pixels.
    Raises: InputError where there is no such command.
    """
    command = shutil.which(browser)
    if command is None:
        raise InputError(f"--browser: expected a command on the PATH, got {browser!r}; install Chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield chromium.new_page(viewport=viewport)
        chromium.close()


def small_screenshot(page: Page) -> bytes:
    """The whole page as a PNG of few colours.

    Args:
        page: as it is to be seen.
    """
    small = io.BytesIO()
    shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shown.quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()
