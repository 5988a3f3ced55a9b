"""Drawings of sounds below each other in one picture, as the docs show them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from scripts.browser_page import browser_page, small_screenshot
from speechprompt.report.page import style_sheet


def write_picture(figures: Sequence[tuple[str, str]], out: Path, browser: str) -> None:
    """Draw captions with inline SVGs as one PNG.

    Args:
        figures: caption and drawing of each.
        out: file to write.
        browser: Chromium's command.
    Raises: InputError where there is no such command.
    """
    drawn = (f"<figure><figcaption>{escape(text)}</figcaption>{svg}</figure>" for text, svg in figures)
    with browser_page(browser, {"width": 1080, "height": 700}) as page:
        page.set_content(f"<style>{style_sheet()}</style><main style='padding: 8px'>{''.join(drawn)}</main>")
        out.write_bytes(small_screenshot(page))
