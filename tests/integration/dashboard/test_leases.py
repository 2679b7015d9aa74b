"""Slices on other nodes, over real HTTP: from a simulated API server's GPULeases and pods."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tessera.dashboard.service import Service
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import (
    client_node,
    client_of,
    dashboard,
    eventually,
    fill,
    fill_pool,
    get,
    lease,
)


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        fill(server)
        fill_pool(server)
        yield server


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.leases) == 2, "all leases are listed")
        yield running


async def test_leases_with_where_they_are_and_how_far(client: aiohttp.ClientSession) -> None:
    lost, served = (await get(client, "/api/v1/leases"))["items"]
    assert served == {
        "namespace": "default", "name": "train-1", "uid": "uid-lease-train", "pod": "train",
        "pod_uid": "uid-default-train", "container": "main", "client_node": "cpu-1", "node": "host-a", "uuid": "GPU-0",
        "mem_bytes": 8 * GIB, "core_percent": 30, "phase": "Active", "epoch": 2, "endpoint": "10.0.0.1:7443",
        "executor": "tessera-system/executor-train", "message": "", "created": "2026-01-01T00:00:00Z", "ending": False,
        "target": None, "wanted": None, "unmoved": "", "next": "", "standing": False, "stopped": False,
    }  # fmt: skip
    assert (lost["phase"], lost["executor"], lost["endpoint"]) == ("Lost", "", "")
    assert "gate ended" in lost["message"]
    assert await get(client, "/api/v1/leases/default/train-1") == served
    error = (await get(client, "/api/v1/leases/default/none", 404))["error"]
    assert error == {"code": "NotFound", "message": "no GPULease is named default/none"}


async def test_leases_by_filter_and_in_pages(client: aiohttp.ClientSession, api: ApiServer, service: Service) -> None:
    api.store.put("gpuleases", lease("far", namespace="team", on="host-b", client="cpu-2", uuid="GPU-2"))
    await eventually(lambda: len(service.feed.snapshot.leases) == 3, "the third lease is seen")

    async def pods(query: str) -> list[str]:
        return [x["pod"] for x in (await get(client, f"/api/v1/leases?{query}"))["items"]]

    assert await pods("") == ["eval", "train", "far"]
    assert await pods("namespace=team") == ["far"]
    assert await pods("phase=Lost") == ["eval"]
    assert await pods("node=host-a") == ["eval", "train"]
    assert await pods("client_node=cpu-2") == ["far"]
    assert await pods("pod=train") == ["train"]
    page = await get(client, "/api/v1/leases?limit=2")
    assert (page["total"], len(page["items"])) == (3, 2)
    rest = await get(client, f"/api/v1/leases?limit=2&continue={page['continue']}")
    assert [x["pod"] for x in rest["items"]] == ["far"] and rest["continue"] == ""
    assert "limit: found '0'" in (await get(client, "/api/v1/leases?limit=0", 400))["error"]["message"]


async def test_a_gpu_names_for_whom_its_executors_compute(client: aiohttp.ClientSession) -> None:
    gpus = {g["uuid"]: g for g in (await get(client, "/api/v1/gpus?node=host-a"))["items"]}
    told = {(t["pod"], t["lease"], t["executor"]) for t in gpus["GPU-0"]["tenants"]}
    assert told == {("small", "", ""), ("train", "default/train-1", "tessera-system/executor-train")}
    assert gpus["GPU-0"]["allocated_bytes"] == 12 * GIB, "once, not for lease and executor"
    assert [(t["pod"], t["executor"]) for t in gpus["GPU-1"]["tenants"]] == [("eval", ""), ("large", "")]


async def test_pods_say_where_their_slices_are_and_executors_whom_they_serve(client: aiohttp.ClientSession) -> None:
    train = await get(client, "/api/v1/pods/default/train")
    assert train["gpus"] == [
        {"uuid": "GPU-0", "mem_bytes": 8 * GIB, "core_percent": 30, "whole": False, "lease": "default/train-1",
         "node": "host-a"}
    ]  # fmt: skip
    assert (await get(client, "/api/v1/pods/default/eval"))["reason"] == "LeaseLost"
    executor = await get(client, "/api/v1/pods/tessera-system/executor-train")
    assert (executor["serves"], executor["client"]) == ("default/train-1", "default/train")


async def test_client_nodes_are_shown_as_such(client: aiohttp.ClientSession) -> None:
    found = await get(client, "/api/v1/nodes/cpu-1")
    assert (found["node"]["client_slots"], found["node"]["used_slots"], found["gpus"]) == (16, 2, [])
    assert [p["name"] for p in found["pods"]] == ["eval", "train"]
    assert [x["pod"] for x in found["leases"]] == ["eval", "train"]
    assert [x["pod"] for x in (await get(client, "/api/v1/nodes/host-a"))["leases"]] == ["eval", "train"]
    totals = (await get(client, "/api/v1/pool"))["totals"]
    assert (totals["nodes"], totals["client_nodes"], totals["client_slots"], totals["used_slots"]) == (2, 1, 16, 2)


async def test_metrics_count_a_slice_and_its_pod_once(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as answer:
        lines = dict(x.rsplit(" ", 1) for x in (await answer.text()).splitlines() if not x.startswith("#"))
    assert float(lines["tessera_pool_memory_allocated_bytes"]) == (4 + 20 + 8 + 8) * GIB
    assert float(lines['tessera_pool_pods{state="running"}']) == 4
    assert float(lines["tessera_pool_nodes"]) == 2
    assert float(lines['tessera_pool_client_slots{state="used"}']) == 2
    assert float(lines['tessera_pool_client_slots{state="free"}']) == 14


async def test_a_lease_that_goes_leaves_its_pod_without_a_slice(
    client: aiohttp.ClientSession, api: ApiServer, service: Service
) -> None:
    api.store.remove("pods", "tessera-system", "executor-train")
    api.store.remove("gpuleases", "default", "train-1")
    await eventually(lambda: len(service.feed.snapshot.leases) == 1, "the lease is gone")
    train = await get(client, "/api/v1/pods/default/train")
    assert (train["reason"], train["gpus"]) == ("NoLease", [])
    assert (await get(client, "/api/v1/gpus?node=host-a"))["items"][0]["allocated_bytes"] == 4 * GIB


async def test_without_the_resource_pods_are_shown_and_only_a_pool_misses_it() -> None:
    async with ApiServer() as api:
        fill(api)
        api.faults.fail_next(1000, status=404, verb="list", plural="gpuleases")
        async with dashboard(api) as service:
            await eventually(lambda: service.feed.source.connected, "pods and GPUs are followed")
            api.store.put("gpunodes", client_node("cpu-1"))
            api.store.put("pods", client_of(lease("train")))
            await eventually(lambda: not service.feed.source.connected, "leases are missed")
            assert "gpuleases" in service.feed.source.message
            assert service.feed.snapshot.pods["default/train"].reason == "", "nothing is said of what is not known"


async def test_leases_ask_for_the_same_right_as_the_rest(api: ApiServer) -> None:
    async with dashboard(api, auth="kubernetes") as service, aiohttp.ClientSession(service.url) as client:
        await asyncio.wait_for(get(client, "/api/v1/leases", 401), 10)
        await asyncio.wait_for(get(client, "/api/v1/leases/default/train-1", 401), 10)
