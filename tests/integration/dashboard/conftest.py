"""A client of the dashboard that the tests of a file serve as ``service``."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tessera.dashboard.service import Service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(service.url) as session:
        yield session
