"""The live stream and the whole snapshot over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tessera.dashboard.service import Service
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import dashboard, eventually, fill, gpu_node, pod


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        fill(server)
        yield server


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.pods) == 3, "all pods are listed")
        await eventually(lambda: running.feed.source.connected, "the API server is followed")
        yield running


class Reader:
    """Reads events from an open stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def until(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                lines = (await self._answer.content.readuntil(b"\n\n")).decode().strip().splitlines()
                fields = dict(line.split(": ", 1) for line in lines)
                if fields.get("event") == name:
                    found: dict[str, Any] = json.loads(fields["data"])
                    return found


async def test_a_change_of_the_cluster_is_streamed(service: Service, api: ApiServer) -> None:
    async with aiohttp.ClientSession(service.url) as client, client.get("/api/v1/stream") as answer:
        assert answer.content_type == "text/event-stream"
        reader = Reader(answer)
        await reader.until("source")
        api.store.put("pods", pod("next", mem="8Gi", on="host-a", uuid="GPU-0"))
        changes = (await reader.until("change"))["changes"]
        assert [p["name"] for p in changes["pods"]] == ["next"]
        assert [(g["uuid"], g["allocated_bytes"]) for g in changes["gpus"]] == [("GPU-0", 12 * GIB)]
        api.store.remove("pods", "default", "next")
        assert (await reader.until("change"))["changes"]["gone_pods"] == ["default/next"]


async def test_who_comes_back_gets_what_was_missed(service: Service, api: ApiServer) -> None:
    before = service.feed.version
    api.store.put("gpunodes", gpu_node("host-c", "GPU-3"))
    await eventually(lambda: "host-c" in service.feed.snapshot.nodes, "the new node is seen")
    headers = {"Last-Event-ID": before}
    async with aiohttp.ClientSession(service.url) as client, client.get("/api/v1/stream", headers=headers) as answer:
        change = await Reader(answer).until("change")
    assert change["version"] == service.feed.version and [n["name"] for n in change["changes"]["nodes"]] == ["host-c"]


async def test_who_was_away_too_long_is_reset(service: Service) -> None:
    url = "/api/v1/stream?since=another-process.3"
    async with aiohttp.ClientSession(service.url) as client, client.get(url) as answer:
        assert await Reader(answer).until("reset") == {}


async def test_the_snapshot_is_not_sent_twice(service: Service) -> None:
    async with aiohttp.ClientSession(service.url) as client:
        async with client.get("/api/v1/snapshot") as answer:
            body, tag = await answer.json(), answer.headers["ETag"]
        assert len(body["gpus"]) == 3 and body["version"] == service.feed.version
        async with client.get("/api/v1/snapshot", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


async def test_an_api_server_that_goes_away_is_said_and_its_return_too(service: Service, api: ApiServer) -> None:
    async with aiohttp.ClientSession(service.url) as client, client.get("/api/v1/stream") as answer:
        reader = Reader(answer)
        assert (await reader.until("source"))["connected"]
    assert service.feed.source.connected
    api.faults.drop_watches()
    api.store.put("pods", pod("after", on="host-a", uuid="GPU-0"))
    await eventually(lambda: "default/after" in service.feed.snapshot.pods, "changes come after a broken watch")


async def test_an_api_server_that_ends_is_noticed() -> None:
    async with ApiServer() as api:
        fill(api)
        port = int(api.url.rpartition(":")[2])
        running = dashboard(api)
        service = await running.__aenter__()
        await eventually(lambda: service.feed.source.connected, "the API server is followed")
    await eventually(lambda: not service.feed.source.connected, "its end is noticed")
    assert service.feed.source.message and len(service.feed.snapshot.pods) == 3
    async with ApiServer(port=port) as again:
        fill(again)
        await eventually(lambda: service.feed.source.connected, "its return is noticed", 30)
    await running.__aexit__(None, None, None)


async def test_stopping_ends_open_streams(api: ApiServer) -> None:
    async with aiohttp.ClientSession() as client:
        async with dashboard(api) as service:
            answer = await client.get(f"{service.url}/api/v1/stream")
            await Reader(answer).until("source")
        async with asyncio.timeout(5):
            await answer.content.read()
        assert answer.content.at_eof()
        answer.close()
