"""A real gateway against the in-process API server, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.simulator.apiserver import ApiServer


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(bookmark_s=0.2) as running:
        yield running


@pytest.fixture
async def gateway(server: ApiServer) -> AsyncIterator[Gateway]:
    async with Gateway(plain(server.url)) as opened:
        yield opened


@pytest.fixture
def until() -> Callable[..., Any]:
    async def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 (any condition, so there is no event to wait for)
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    def make(name: str, **spec: Any) -> dict[str, Any]:
        limits = spec.pop("limits", {})
        containers = [{"name": "c", "image": "i", "resources": {"limits": limits}}]
        return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": containers, **spec}}

    return make
