"""The REST API over real HTTP, from a simulated API server's objects."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tessera.dashboard.service import Service
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import dashboard, eventually, fill, get, no_room


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        fill(server)
        yield server


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.pods) == 3, "all pods are listed")
        yield running


async def test_the_pool_in_sum(client: aiohttp.ClientSession) -> None:
    totals = (await get(client, "/api/v1/pool"))["totals"]
    assert (totals["nodes"], totals["gpus"], totals["unhealthy_gpus"]) == (2, 3, 1)
    assert totals["allocated_bytes"] == 24 * GIB and totals["mem_bytes"] == 96 * GIB
    assert (totals["running_pods"], totals["waiting_pods"]) == (2, 1)


async def test_gpus_with_their_tenants(client: aiohttp.ClientSession) -> None:
    found = await get(client, "/api/v1/gpus?node=host-a")
    assert [(g["uuid"], g["allocated_bytes"], g["tenants"][0]["pod"]) for g in found["items"]] == [
        ("GPU-0", 4 * GIB, "small"),
        ("GPU-1", 20 * GIB, "large"),
    ]
    assert {(g["level"], g["evidence"]) for g in found["items"]} == {(1, "an MPS server answers")}
    assert found["items"][0]["conditions"] == [{"type": "SliceFilesChanged", "message": "written again"}]
    ill = await get(client, "/api/v1/gpus?healthy=false")
    assert [(g["uuid"], g["health_reason"]) for g in ill["items"]] == [("GPU-2", "Xid 79")]


async def test_pods_by_filter(client: aiohttp.ClientSession) -> None:
    async def names(query: str) -> list[str]:
        return [p["name"] for p in (await get(client, f"/api/v1/pods?{query}"))["items"]]

    assert await names("") == ["huge", "small", "large"]
    assert await names("namespace=kube-system") == ["large"]
    assert await names("phase=Running&node=host-a") == ["small", "large"]
    assert await names("pending=true") == ["huge"]


async def test_a_waiting_pod_says_why_by_its_condition_then_by_the_event(
    client: aiohttp.ClientSession, api: ApiServer
) -> None:
    huge = await get(client, "/api/v1/pods/default/huge")
    assert huge["waiting"] and huge["gpus"] == [] and huge["message"].startswith("0/2 nodes")
    api.store.put("events", no_room("huge", "3 GPUs: 2 not enough memory, 1 unhealthy"))

    async def told() -> bool:
        found = await get(client, "/api/v1/pods/default/huge")
        return (found["reason"], found["message"]) == ("NoRoom", "3 GPUs: 2 not enough memory, 1 unhealthy")

    await eventually(told, "the event's words are shown")
    api.store.remove("events", "default", "huge.1")

    async def told_again() -> bool:
        return bool((await get(client, "/api/v1/pods/default/huge"))["reason"] == "Unschedulable")

    await eventually(told_again, "the condition's words are back")


async def test_a_node_with_its_gpus_and_pods(client: aiohttp.ClientSession) -> None:
    found = await get(client, "/api/v1/nodes/host-a")
    assert [g["uuid"] for g in found["gpus"]] == ["GPU-0", "GPU-1"]
    assert [p["name"] for p in found["pods"]] == ["small", "large"]
    assert [n["name"] for n in (await get(client, "/api/v1/nodes"))["items"]] == ["host-a", "host-b"]


async def test_long_lists_come_in_pages(client: aiohttp.ClientSession) -> None:
    seen, token = [], ""
    for _ in range(3):
        page = await get(client, f"/api/v1/gpus?limit=1&continue={token}")
        seen += [g["uuid"] for g in page["items"]]
        token = page["continue"]
        assert page["total"] == 3
    assert seen == ["GPU-0", "GPU-1", "GPU-2"] and token == ""


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/gpus?limit=0", 400, "limit: found '0'"),
        ("/api/v1/pods?pending=perhaps", 400, "pending: found 'perhaps'"),
        ("/api/v1/pods?continue=!", 400, "continue: found '!'"),
        ("/api/v1/nodes/nowhere", 404, "'nowhere'"),
        ("/api/v1/pods/default/nobody", 404, "default/nobody"),
        ("/api/v1/nothing", 404, "Not Found"),
    ],
)
async def test_errors_are_one_sentence(client: aiohttp.ClientSession, path: str, status: int, says: str) -> None:
    error = (await get(client, path, status))["error"]
    assert says in error["message"] and error["code"] in ("BadRequest", "NotFound")


async def test_every_answer_carries_the_security_headers(client: aiohttp.ClientSession) -> None:
    for path in ("/", "/static/js/main.js", "/api/v1/pool", "/api/v1/nothing", "/static/../main.py"):
        async with client.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
    async with client.get("/static/vendor/preact.mjs") as answer:
        assert answer.content_type == "text/javascript"


async def test_a_foreign_host_name_is_not_answered_without_sign_in(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/pool", headers={"Host": "evil.example:80"}) as answer:
        assert answer.status == 421


async def test_probes_and_metrics(client: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
    async with client.get("/metrics") as answer:
        text = await answer.text()
    assert 'tessera_pool_gpus{state="unhealthy"} 1.0' in text
    allocated = next(line for line in text.splitlines() if line.startswith("tessera_pool_memory_allocated_bytes "))
    assert float(allocated.split()[1]) == 24 * GIB


async def test_the_schema_names_every_route(client: aiohttp.ClientSession) -> None:
    paths = (await get(client, "/api/v1/openapi.json"))["paths"]
    assert {"/api/v1/pool", "/api/v1/gpus", "/api/v1/nodes/{name}", "/api/v1/pods", "/api/v1/leases"} <= set(paths)


async def test_not_ready_before_the_first_list() -> None:
    async with ApiServer() as api:
        api.faults.fail_next(1000, status=503, verb="list")
        async with dashboard(api) as service, aiohttp.ClientSession(service.url) as client:
            async with client.get("/readyz") as answer:
                assert answer.status == 503 and await answer.text()
            async with client.get("/healthz") as answer:
                assert answer.status == 200
