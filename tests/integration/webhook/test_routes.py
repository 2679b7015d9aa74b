"""The webhook over HTTP, fed with what an API server sends and with what it never would."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette

from tessera.scheduler.webhook.rewrite import Options
from tessera.scheduler.webhook.routes import MAX_BODY_BYTES, routes
from tessera.serving import Server

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one"},
    "spec": {"containers": [{"name": "a", "resources": {"limits": {"gpu-mem": "4Gi"}}}]},
}


def review(obj: Any, operation: str = "CREATE", **request: Any) -> dict[str, Any]:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "u-1", "kind": kind, "operation": operation, "object": obj, "oldObject": None, "dryRun": False}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**asked, **request}}


@pytest.fixture
async def post() -> AsyncIterator[Any]:
    server = Server(Starlette(routes=routes(Options())), "127.0.0.1", 0, None)
    await server.start()
    async with aiohttp.ClientSession() as session:

        async def send(body: bytes) -> tuple[int, str]:
            async with session.post(f"{server.url}/mutate", data=body) as answer:
                return answer.status, await answer.text()

        yield send
    await server.stop()


async def test_a_pod_with_a_short_key_is_patched_and_warned_of(post: Any) -> None:
    status, text = await post(json.dumps(review(POD)).encode())
    answer = json.loads(text)
    assert status == 200 and (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = answer["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
    limits = "/spec/containers/0/resources/limits"
    assert json.loads(base64.b64decode(response["patch"])) == [
        {"op": "remove", "path": f"{limits}/gpu-mem"},
        {"op": "add", "path": f"{limits}/tessera.io~1gpu-mem", "value": "4Gi"},
        {"op": "add", "path": f"{limits}/tessera.io~1slice", "value": "1"},
        {"op": "add", "path": "/spec/schedulerName", "value": "tessera"},
    ]
    assert len(response["warnings"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        review(None, "DELETE"),
        review({**POD, "spec": {"containers": []}}),
        review(POD, subResource="ephemeralcontainers"),
        review({**POD, "kind": "Service"}) | {"extra": 1},
        review({"spec": "x"}),
    ],
)
async def test_what_needs_nothing_is_allowed_as_it_is(post: Any, body: dict[str, Any]) -> None:
    status, text = await post(json.dumps(body).encode())
    response = json.loads(text)["response"]
    assert status == 200 and response == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "allowed: an AdmissionReview of admission.k8s.io/v1"),
        (b"{", "allowed: an AdmissionReview"),
        (b"\xff\xfe", "allowed: an AdmissionReview"),
        (b"[]", "Expected `object`"),
        (b"[" * 100_000, "allowed: an AdmissionReview"),
        (json.dumps({**review(POD), "apiVersion": "admission.k8s.io/v2"}).encode(), "found 'admission.k8s.io/v2"),
        (json.dumps({**review(POD), "request": {}}).encode(), "missing required field `uid`"),
        (json.dumps(review("x")).encode(), "$.request.object"),
        (b'{"a":"' + b"x" * MAX_BODY_BYTES + b'"}', "allowed: fewer"),
    ],
    ids=["empty", "cut off", "not text", "list", "deep", "version", "no request", "object", "too long"],
)
async def test_garbage_is_answered_with_one_sentence(post: Any, body: bytes, sentence: str) -> None:
    status, text = await post(body)
    assert status == 400 and sentence in text and text.count("\n") == 1
    status, _ = await post(json.dumps(review(POD)).encode())
    assert status == 200, "and the next request is served"
