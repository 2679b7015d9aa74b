"""The page as a reader has it: followed live, its errors and its requests elsewhere noted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

CHROMIUM = Path("/usr/bin/chromium")
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")


class Watched:
    """A page whose console errors and requests elsewhere are noted."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.errors, self.elsewhere = page, list[str](), list[str]()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._request(request, url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request, url: str) -> None:
        if not request.url.startswith(url):
            self.elsewhere.append(request.url)


@asynccontextmanager
async def watching(browser: Browser, url: str) -> AsyncIterator[Watched]:
    """The page once it is live; in the end it must have had no errors and asked nobody else."""
    page = await browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(20_000)
    found = Watched(page, url)
    await page.goto(url)
    await expect(page.locator("#link")).to_have_text("Live")
    yield found
    assert found.errors == [] and found.elsewhere == []


async def cells(page: Page, wanted: int) -> None:
    await expect(page.locator("#heat")).to_have_attribute("data-cells", str(wanted))
