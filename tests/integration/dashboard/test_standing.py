"""Leases of one's own over the REST API: made, used, stopped and started with the caller's token alone."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tessera.dashboard.service import Service
from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import (
    ADA,
    dashboard,
    eventually,
    executor_of,
    get,
    of_ada,
    pod,
    standing,
)

JSON = ADA | {"Content-Type": "application/json"}
LEASES = "/api/v1/leases/default"
MINE = f"{LEASES}/mine"
VERBS = ("detach", "stop", "start")


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with of_ada() as server:
        yield server


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.leases) == 2, "all leases are listed")
        yield running


def stored(api: ApiServer, name: str = "mine") -> Any:
    return api.store.get("gpuleases", "default", name)


async def test_a_lease_is_made_as_the_caller(client: aiohttp.ClientSession, api: ApiServer) -> None:
    notes = {"tessera.io/gpu-model": "A100"}
    body = {"name": "mine", "gpu-mem": "8Gi", "gpu-core": 30, "annotations": notes}
    async with client.post(LEASES, json=body, headers=ADA) as answer:
        assert answer.status == 201
        told = await answer.json()
    assert (told["name"], told["standing"], told["phase"], told["node"]) == ("mine", True, "Pending", "")
    assert told["wanted"] == {"mem_bytes": 8 * GIB, "core_percent": 30}
    made = stored(api)
    assert made["spec"] == {"standing": True, "wanted": {"memoryBytes": 8 * GIB, "corePercent": 30}}
    assert made["metadata"]["annotations"] == notes

    async def shown() -> bool:
        return bool((await get(client, "/api/v1/leases"))["total"] == 3)

    await eventually(shown, "the list has it too")
    async with client.post(LEASES, json=body, headers=ADA) as answer:
        assert answer.status == 409 and "already exists" in (await answer.json())["error"]["message"]
    async with client.post(LEASES, json={"name": "bare", "gpu-mem": GIB}, headers=ADA) as answer:
        assert (await answer.json())["wanted"] == {"mem_bytes": GIB, "core_percent": 0}


async def test_a_pod_is_told_to_use_it(client: aiohttp.ClientSession, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine"))
    waits = pod("next")
    waits["metadata"]["annotations"] = {"tessera.io/remote": "required"}
    waits["spec"]["schedulingGates"] = [{"name": "tessera.io/gpu-lease"}]
    api.validators.clear()
    async with Gateway(plain(api.url)) as gateway:
        await gateway.create(PODS, waits, namespace="default")
    async with client.post(f"{MINE}/attach", json={"pod": "next"}, headers=ADA) as answer:
        assert (answer.status, (await answer.json())["name"]) == (202, "mine")
    told = api.store.get("pods", "default", "next")
    assert told is not None and told["metadata"]["annotations"]["tessera.io/gpu-lease"] == "mine"
    assert not told["spec"].get("schedulingGates")
    for name, status, says in (("small", 409, "one that waits to be placed"), ("nobody", 404, "nobody")):
        async with client.post(f"{MINE}/attach", json={"pod": name}, headers=ADA) as answer:
            assert answer.status == status and says in (await answer.json())["error"]["message"]


async def test_it_is_taken_off_stopped_and_started(client: aiohttp.ClientSession, api: ApiServer) -> None:
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    async with client.post(f"{MINE}/stop", headers=JSON) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (409, "Conflict") and "one used by pod train" in error["message"]
    async with client.post(f"{MINE}/detach", headers=JSON) as answer:
        assert (answer.status, (await answer.json())["pod"]) == (202, "")
    async with client.post(f"{MINE}/stop", headers=JSON, data=b"{}") as answer:
        assert (answer.status, (await answer.json())["stopped"]) == (202, True)
    assert stored(api)["spec"]["stopped"] is True and "client" not in stored(api)["spec"]
    async with client.post(f"{MINE}/start", headers=JSON) as answer:
        assert (answer.status, (await answer.json())["stopped"]) == (202, False)
    assert "stopped" not in stored(api)["spec"]


async def test_a_pods_own_lease_is_none_to_be_stopped(client: aiohttp.ClientSession, api: ApiServer) -> None:
    before = stored(api, "train-1")
    for verb in VERBS:
        async with client.post(f"{LEASES}/train-1/{verb}", headers=JSON) as answer:
            error = (await answer.json())["error"]
            assert answer.status == 409 and "allowed: a standing one, which users make" in error["message"]
        async with client.post(f"{LEASES}/none/{verb}", headers=JSON) as answer:
            assert answer.status == 404
    assert stored(api, "train-1") == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Cookie": "token=ada-token"}, 401),
        ({"Authorization": "Bearer forged"}, 401),
        ({"Authorization": "Bearer bob-token"}, 400),
    ],
)
async def test_who_shows_no_token_with_the_right_changes_nothing(
    client: aiohttp.ClientSession, api: ApiServer, headers: dict[str, str], status: int
) -> None:
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    before = stored(api)
    sent = headers | {"Content-Type": "application/json"}
    async with client.post(LEASES, json={"name": "other", "gpu-mem": "1Gi"}, headers=sent) as answer:
        assert answer.status == status
    async with client.post(f"{MINE}/detach", headers=sent) as answer:
        assert answer.status == status
    assert stored(api) == before and stored(api, "other") is None


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_what_a_foreign_page_may_send_unasked_is_refused_without_a_body_too(
    client: aiohttp.ClientSession, api: ApiServer, kind: str
) -> None:
    """Even with a token, as a proxy in between that signs its users in by a cookie would add it."""
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    before = stored(api)
    headers = ADA | {"Content-Type": kind, "Origin": "https://evil.example"}
    for verb in VERBS:
        async with client.post(f"{MINE}/{verb}", headers=headers) as answer:
            assert answer.status == 415
    async with client.post(f"{MINE}/detach", headers=ADA, skip_auto_headers=["Content-Type"]) as answer:
        assert answer.request_info.headers.get("Content-Type") is None and answer.status == 415
    for path in (LEASES, f"{MINE}/detach"):
        ask = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        async with client.options(path, headers=ask) as answer:
            assert answer.status == 405 and "Access-Control-Allow-Origin" not in answer.headers
    assert stored(api) == before


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (LEASES, b"[1]", "body: found [1]; allowed: a JSON object such as"),
        (LEASES, b"", "body: found ''; allowed: a JSON object such as"),
        (LEASES, b'{"gpu-mem": "4Gi"}', "name: found None; allowed: a name of small letters, digits, - and ."),
        (LEASES, b'{"name": "A/b", "gpu-mem": "4Gi"}', "name: found 'A/b'; allowed: a name"),
        (LEASES, b'{"name": "x"}', "gpu-mem: found None; allowed: whole bytes from 1 to 64Ti"),
        (LEASES, b'{"name": "x", "gpu-mem": "4Gi", "gpu-core": 101}', "gpu-core: found '101'; allowed: a whole number"),
        (LEASES, b'{"name": "x", "gpu-mem": "4Gi", "node": "y"}',
         "node: found 'y'; allowed: name, gpu-mem, gpu-core and annotations only"),
        (LEASES, b'{"name": "x", "gpu-mem": "4Gi", "annotations": {"tessera.io/qos": 1}}',
         "annotations: found {'tessera.io/qos': 1}; allowed: an object of texts"),
        (LEASES, b'{"name": "x", "gpu-mem": "4Gi", "annotations": {"a": "b"}}',
         "metadata.annotations: found 'a'; allowed: tessera.io/placement"),
        (LEASES, b'{"name": "x", "gpu-mem": "4Gi", "annotations": {"tessera.io/enforcement": "9"}}',
         "metadata.annotations[tessera.io/enforcement]: found '9'; allowed: 0, 1, 2, 3"),
        (f"{MINE}/attach", b"{}", "pod: found None; allowed: a name"),
        (f"{MINE}/attach", b'{"pod": ".."}', "pod: found '..'; allowed: a name"),
        (f"{MINE}/attach", b'{"pod": "a", "node": "b"}', "node: found 'b'; allowed: pod only"),
        (f"{MINE}/stop", b'{"now": true}', "body: found {'now': True}; allowed: a JSON object such as {}"),
        (f"{MINE}/start", b"{", "body: found '{'; allowed: a JSON object such as {}"),
    ],
)  # fmt: skip
async def test_a_body_that_is_wrong_is_told_in_one_sentence(
    client: aiohttp.ClientSession, api: ApiServer, path: str, body: bytes, says: str
) -> None:
    api.store.put("gpuleases", standing("mine"))
    before = stored(api)
    async with client.post(path, data=body, headers=JSON) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "BadRequest") and error["message"].startswith(says), error
    assert stored(api) == before and stored(api, "x") is None


async def test_what_the_server_finds_wrong_is_handed_on(client: aiohttp.ClientSession, api: ApiServer) -> None:
    body = {"name": "mine", "gpu-mem": "4Gi"}
    for fault, answered in ((403, 403), (422, 400), (500, 503)):
        api.faults.fail_next(1, status=fault, verb="create", plural="gpuleases")
        async with client.post(LEASES, json=body, headers=ADA) as answer:
            assert answer.status == answered and (await answer.json())["error"]["message"]
    api.faults.lose_answers(1, verb="create", plural="gpuleases")
    async with client.post(LEASES, json=body, headers=ADA) as answer:
        assert answer.status == 503 and "is not known" in (await answer.json())["error"]["message"]
    assert stored(api) is not None


async def test_a_slice_that_no_pod_uses_is_its_leases(
    client: aiohttp.ClientSession, api: ApiServer, service: Service
) -> None:
    found = standing("mine")
    api.store.put("gpuleases", found)
    api.store.put("pods", executor_of(found))
    await eventually(lambda: f"{found['metadata']['namespace']}/mine" in service.feed.snapshot.leases, "it is seen")
    await eventually(lambda: "tessera-system/executor-mine" in service.feed.snapshot.pods, "its executor is seen")
    gpu = next(g for g in (await get(client, "/api/v1/gpus"))["items"] if g["uuid"] == "GPU-0")
    mine = next(t for t in gpu["tenants"] if t["lease"] == "default/mine")
    assert (mine["pod"], mine["container"], mine["executor"]) == ("", "", "tessera-system/executor-mine")
    assert gpu["allocated_bytes"] == (4 + 8 + 8) * GIB
    executor = await get(client, "/api/v1/pods/tessera-system/executor-mine")
    assert (executor["serves"], executor["client"]) == ("default/mine", "")
    free = [x["name"] for x in (await get(client, "/api/v1/leases?phase=Detached"))["items"]]
    assert free == ["mine"]


async def test_the_schema_says_what_may_be_asked(client: aiohttp.ClientSession) -> None:
    paths = (await get(client, "/api/v1/openapi.json"))["paths"]
    made = paths["/api/v1/leases/{namespace}"]["post"]
    schema = made["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["name", "gpu-mem"] and "201" in made["responses"]
    for verb in VERBS:
        assert paths[f"/api/v1/leases/{{namespace}}/{{name}}/{verb}"]["post"]["requestBody"]["required"] is False
