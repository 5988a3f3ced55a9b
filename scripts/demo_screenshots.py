"""Pictures of the demonstration page for docs/demo.md, taken from a page that is being shown.

    speechprompt demo --inpaint-run RUN --runs runs/my_words --port 7860 &
    python -m scripts.demo_screenshots --url http://127.0.0.1:7860 --out docs/demo

Playwright drives the system's Chromium. Few colours and greys: each picture stays under 130 KB.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Page

from scripts.browser_page import browser_page, small_screenshot

_WAIT_MS = 120_000


def main(
    url: Annotated[str, typer.Option(help="Where the page is shown.")] = "http://127.0.0.1:7860",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs/demo"),
    browser: Annotated[str, typer.Option(help="Chromium's command.")] = "chromium",
) -> None:
    """Write inpaint.png, continue.png, classify.png and resynthesize.png."""
    out.mkdir(parents=True, exist_ok=True)
    with browser_page(browser, {"width": 1060, "height": 700}) as page:
        page.set_default_timeout(_WAIT_MS)
        page.goto(url)
        page.get_by_role("button", name="A read sentence").click()
        for name, use in _TABS.items():
            page.get_by_role("tab", name=name.capitalize()).click()
            use(page)
            page.wait_for_timeout(800)  # players and pictures have settled
            file = out / f"{name}.png"
            file.write_bytes(small_screenshot(page))
            print(f"{file}: {file.stat().st_size // 1024} KiB")


def _inpaint(page: Page) -> None:
    page.wait_for_selector(".gap-picker")
    page.fill("#gap-start input", "1.38")
    page.fill("#gap-end input", "2.02")
    page.click("#fill")
    page.wait_for_selector("#inpainted audio")


def _continue(page: Page) -> None:
    page.click("#go-on")
    page.wait_for_selector("#take-3 audio")


def _classify(page: Page) -> None:
    page.get_by_role("button", name="A spoken digit").click()
    page.wait_for_selector("#inpainted", state="hidden")
    page.click("#label-it")
    page.wait_for_selector("#answer .guesses")


def _resynthesize(page: Page) -> None:
    page.get_by_role("button", name="A read sentence").click()
    page.wait_for_selector("#answer .guesses", state="hidden")
    page.click("#respeak")
    page.wait_for_selector("#resynthesized audio")


_TABS: dict[str, Callable[[Page], None]] = {
    "inpaint": _inpaint,
    "continue": _continue,
    "classify": _classify,
    "resynthesize": _resynthesize,
}

if __name__ == "__main__":
    typer.run(main)
