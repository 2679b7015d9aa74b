"""What the REST API changes of leases: with the caller's token alone, over real HTTP and a simulated API server."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tessera.dashboard.service import Service
from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import (
    ADA,
    dashboard,
    eventually,
    get,
    lease,
    of_ada,
)

RESIZE = "/api/v1/leases/default/train-1/resize"
LEASE = "/api/v1/leases/default/train-1"


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with of_ada() as server:
        yield server


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.leases) == 2, "all leases are listed")
        yield running


def stored(api: ApiServer) -> Any:
    return api.store.get("gpuleases", "default", "train-1")


async def test_a_size_is_asked_for_as_the_caller(client: aiohttp.ClientSession, api: ApiServer) -> None:
    before = stored(api)
    async with client.post(RESIZE, json={"gpu-mem": "16Gi", "gpu-core": 40}, headers=ADA) as answer:
        assert answer.status == 202
        told = await answer.json()
    assert (told["wanted"], told["mem_bytes"]) == ({"mem_bytes": 16 * GIB, "core_percent": 40}, 8 * GIB)
    wanted = {"memoryBytes": 16 * GIB, "corePercent": 40}
    assert stored(api)["spec"] == before["spec"] | {"wanted": wanted}

    async def shown() -> bool:
        return bool((await get(client, LEASE))["wanted"] == told["wanted"])

    await eventually(shown, "the list says it too")
    async with client.post(RESIZE, json={"gpu-mem": 12 * GIB}, headers=ADA) as answer:
        assert (await answer.json())["wanted"] == {"mem_bytes": 12 * GIB, "core_percent": 40}


async def test_an_end_is_asked_for_as_the_caller(client: aiohttp.ClientSession, api: ApiServer) -> None:
    async with client.delete(LEASE, headers=ADA) as answer:
        assert (answer.status, (await answer.json())["name"]) == (202, "train-1")
    assert stored(api) is None and api.store.get("gpuleases", "default", "eval-1") is not None
    async with client.delete(LEASE, headers=ADA) as answer:
        assert answer.status == 404 and (await answer.json())["error"]["code"] == "NotFound"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "Unauthorized"),
        ({"Authorization": "Basic YWRhOmFkYQ=="}, 401, "Unauthorized"),
        ({"Authorization": "Bearer "}, 401, "Unauthorized"),
        ({"Cookie": "token=ada-token"}, 401, "Unauthorized"),
        ({"Authorization": "Bearer forged"}, 401, "Unauthorized"),
        ({"Authorization": "Bearer bob-token"}, 400, "BadRequest"),
    ],
)
async def test_who_shows_no_token_with_the_right_changes_nothing(
    client: aiohttp.ClientSession, api: ApiServer, headers: dict[str, str], status: int, code: str
) -> None:
    """Reading needs no token here: to change something does. (The simulator answers 422 for what a policy forbids.)"""
    before = stored(api)
    for call in (client.post(RESIZE, json={"gpu-mem": "16Gi"}, headers=headers), client.delete(LEASE, headers=headers)):
        async with call as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (status, code)
            assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
            assert "\n" not in error["message"] and "ada-token" not in error["message"]
    assert stored(api) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_foreign_page_may_send_unasked_is_refused(
    client: aiohttp.ClientSession, api: ApiServer, kind: str
) -> None:
    """Even with a token, as a proxy in between that signs its users in by a cookie would add it."""
    headers = ADA | {"Content-Type": kind, "Origin": "https://evil.example"}
    async with client.post(RESIZE, data=b'{"gpu-mem": "16Gi"}', headers=headers) as answer:
        assert answer.status == 415 and (await answer.json())["error"]["code"] == "UnsupportedMediaType"
    ask = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in (RESIZE, LEASE):
        async with client.options(path, headers=ask) as answer:
            assert answer.status == 405 and "Access-Control-Allow-Origin" not in answer.headers
    assert "wanted" not in stored(api)["spec"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "body: found ''; allowed: a JSON object such as"),
        (b"{", "body: found '{'; allowed: a JSON object such as"),
        (b"[1]", "body: found [1]; allowed: a JSON object such as"),
        (b"{}", "gpu-mem: found None; allowed: whole bytes from 1 to 64Ti"),
        (b'{"gpu-mem": "16Gi", "node": "x"}', "node: found 'x'; allowed: gpu-mem and gpu-core only"),
        (b'{"gpu-mem": "-1Gi"}', "gpu-mem: found '-1Gi'; allowed: whole bytes from 1 to 64Ti"),
        (b'{"gpu-mem": true}', "gpu-mem: found True; allowed: whole bytes from 1 to 64Ti"),
        (b'{"gpu-mem": 1.5}', "gpu-mem: found 1.5; allowed: whole bytes from 1 to 64Ti"),
        (b'{"gpu-mem": "4Gi", "gpu-core": 101}', "gpu-core: found '101'; allowed: a whole number from 0, no cap, to"),
        (b'{"gpu-mem": "4Gi", "gpu-core": null}', "gpu-core: found None; allowed: a whole number from 0, no cap, to"),
        (b" " * 5000, "body: found more than 4096 bytes; allowed: a JSON object such as"),
    ],
)
async def test_a_body_that_is_wrong_is_told_in_one_sentence(
    client: aiohttp.ClientSession, api: ApiServer, body: bytes, says: str
) -> None:
    async with client.post(RESIZE, data=body, headers=ADA | {"Content-Type": "application/json"}) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "BadRequest") and error["message"].startswith(says), error
    assert "wanted" not in stored(api)["spec"]


@pytest.mark.parametrize(
    ("fault", "verb", "answered", "code"),
    [(403, "patch", 403, "Forbidden"), (409, "patch", 409, "Conflict"), (404, "get", 404, "NotFound"),
     (429, "get", 429, "TooManyRequests"), (500, "get", 503, "Unavailable"), (503, "patch", 503, "Unavailable")],
)  # fmt: skip
async def test_the_api_servers_refusals_are_handed_on(
    client: aiohttp.ClientSession, api: ApiServer, fault: int, verb: str, answered: int, code: str
) -> None:
    api.faults.fail_next(1, status=fault, verb=verb, plural="gpuleases")
    async with client.post(RESIZE, json={"gpu-mem": "16Gi"}, headers=ADA) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (answered, code) and error["message"]


async def test_an_answer_that_is_lost_is_not_taken_for_a_refusal(client: aiohttp.ClientSession, api: ApiServer) -> None:
    api.faults.lose_answers(1, verb="patch", plural="gpuleases")
    async with client.post(RESIZE, json={"gpu-mem": "16Gi"}, headers=ADA) as answer:
        assert answer.status == 503 and "is not known" in (await answer.json())["error"]["message"]
    assert stored(api)["spec"]["wanted"]["memoryBytes"] == 16 * GIB


async def test_a_lease_that_ends_gets_no_other_size(client: aiohttp.ClientSession, api: ApiServer) -> None:
    api.store.put("gpuleases", lease("train", phase="Released"))
    async with client.post(RESIZE, json={"gpu-mem": "16Gi"}, headers=ADA) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (409, "Conflict") and "one that stays" in error["message"]


async def test_nothing_is_changed_through_plain_http_where_callers_are_told_apart(api: ApiServer) -> None:
    """What is behind it may act as itself, whoever asks."""
    async with dashboard(api, auth="kubernetes") as service, aiohttp.ClientSession(service.url) as client:
        for call in (client.post(RESIZE, json={"gpu-mem": "16Gi"}, headers=ADA), client.delete(LEASE, headers=ADA)):
            async with call as answer:
                assert answer.status == 403
                assert "allowed for changes: an API server over https" in (await answer.json())["error"]["message"]
    assert "wanted" not in stored(api)["spec"]


async def test_the_schema_says_what_may_be_asked(client: aiohttp.ClientSession) -> None:
    paths = (await get(client, "/api/v1/openapi.json"))["paths"]
    asked = paths["/api/v1/leases/{namespace}/{name}/resize"]["post"]
    schema = asked["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["gpu-mem"] and set(schema["properties"]) == {"gpu-mem", "gpu-core"}
    assert {"202", "400", "401", "403", "409"} <= set(asked["responses"])
    assert "delete" in paths["/api/v1/leases/{namespace}/{name}"]
