"""``kubectl tessera`` as a process would run it, against a simulated API server with a small cluster in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from typer.testing import CliRunner, Result

from tessera.cli.kubectl import app
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import fill

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        fill(server)
        yield server


@pytest.fixture
def run(api: ApiServer) -> Run:
    async def invoke(*argv: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [*argv, "--server", api.url])

    return invoke
