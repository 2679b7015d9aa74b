"""A real Chromium and a simulated API server, for each test."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tessera.simulator.apiserver import ApiServer
from tests.ui.pages import ARGS, CHROMIUM


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        await started.close()
