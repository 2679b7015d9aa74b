"""What the in-process API server refuses and rewrites on the way in, as the real one does."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tessera.kube.connection import plain
from tessera.kube.errors import ApiError, UnknownOutcome
from tessera.kube.gateway import Gateway
from tessera.kube.resources import DEPLOYMENTS, JOBS, PODS, PRIORITY_CLASSES, untyped
from tessera.simulator.apiserver import ApiServer, Request, Webhook

Make = Callable[..., dict[str, Any]]
RENAME = [
    {"op": "add", "path": "/spec/containers/0/resources/limits/tessera.io~1gpu-mem", "value": "4Gi"},
    {"op": "remove", "path": "/spec/containers/0/resources/limits/gpu-mem"},
    {"op": "add", "path": "/spec/containers/0/resources/requests", "value": {"tessera.io/gpu-mem": "4Gi"}},
]


@asynccontextmanager
async def webhook(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> AsyncIterator[str]:
    async def review(request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        response = {"uid": asked["uid"], **answer(asked)}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    app = web.Application()
    app.router.add_post("/mutate", review)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}/mutate"
    finally:
        await runner.cleanup()


def patching(operations: list[dict[str, Any]], warnings: list[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _asked: {"allowed": True, "patchType": "JSONPatch", "patch": patch, "warnings": warnings}


def pods_only(request: Request) -> bool:
    return request.plural == "pods"


async def test_an_unqualified_resource_is_refused_in_the_real_words(gateway: Gateway, pod: Make) -> None:
    with pytest.raises(ApiError) as caught:
        await gateway.create(PODS, pod("a", limits={"gpu-mem": "4Gi"}))
    assert caught.value.invalid
    assert "spec.containers[0].resources.limits[gpu-mem]" in caught.value.message
    assert "must be a standard resource type or fully qualified" in caught.value.message


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"limits": {"tessera.io/gpu-mem": "500m"}}, "must be an integer"),
        ({"limits": {"tessera.io/gpu-mem": "-1"}}, "must be greater than or equal to 0"),
        ({"limits": {"tessera.io/gpu-mem": "4 Gi"}}, "must match the regular expression"),
        ({"requests": {"tessera.io/gpu-mem": "4Gi"}}, "Limit must be set"),
        ({"limits": {"tessera.io/gpu": "2"}, "requests": {"tessera.io/gpu": "1"}}, "must be equal to"),
    ],
)
async def test_extended_resources(gateway: Gateway, pod: Make, resources: dict[str, Any], words: str) -> None:
    made = pod("a")
    made["spec"]["containers"][0]["resources"] = resources
    with pytest.raises(ApiError, match=words):
        await gateway.create(PODS, made)


async def test_pod_level_resources_hold_no_extended_ones(gateway: Gateway, pod: Make) -> None:
    with pytest.raises(ApiError, match="Unsupported value"):
        await gateway.create(PODS, pod("a", resources={"limits": {"tessera.io/gpu-mem": "4Gi"}}))


async def test_a_webhook_rewrites_before_validation_and_warns(server: ApiServer, pod: Make) -> None:
    warned: list[str] = []
    text = 'stored as "tessera.io/gpu-mem"'
    async with (
        webhook(patching(RENAME, [text])) as url,
        Gateway(plain(server.url), on_warning=warned.append) as gateway,
    ):
        server.webhooks.append(Webhook(url, match=pods_only))
        made = await gateway.create(PODS, pod("a", limits={"gpu-mem": "4Gi"}))
    resources = made.spec.containers[0].resources
    assert resources.limits == resources.requests == {"tessera.io/gpu-mem": "4Gi"}
    assert warned == [text]


async def test_a_webhook_sees_the_real_review(server: ApiServer, gateway: Gateway, pod: Make) -> None:
    seen: list[dict[str, Any]] = []

    def look(asked: dict[str, Any]) -> dict[str, Any]:
        seen.append(asked)
        return {"allowed": True}

    async with webhook(look) as url:
        server.webhooks.append(Webhook(url))
        await gateway.create(PODS, pod("a"))
        await gateway.merge_patch(PODS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace="default")
    create, update = seen
    assert (create["operation"], create["namespace"], create["oldObject"]) == ("CREATE", "default", None)
    assert create["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert create["object"]["spec"]["schedulerName"] == "default-scheduler"
    assert (update["operation"], update["object"]["metadata"]["labels"]) == ("UPDATE", {"x": "y"})
    assert update["oldObject"]["metadata"].get("labels") is None


async def test_a_webhook_that_refuses_or_is_away(server: ApiServer, gateway: Gateway, pod: Make) -> None:
    async with webhook(lambda _: {"allowed": False, "status": {"message": "gpu-mem: found 0"}}) as url:
        server.webhooks.append(Webhook(url))
        with pytest.raises(ApiError, match="denied the request: gpu-mem: found 0") as caught:
            await gateway.create(PODS, pod("a"))
        assert caught.value.forbidden
    with pytest.raises(UnknownOutcome, match="failed calling webhook"):
        await gateway.create(PODS, pod("a"))
    assert server.store.get("pods", "default", "a") is None


async def test_a_change_while_the_webhook_thinks_is_not_overwritten(
    server: ApiServer, gateway: Gateway, pod: Make
) -> None:
    await gateway.create(PODS, pod("a"))
    raced = False

    def race(_asked: dict[str, Any]) -> dict[str, Any]:
        nonlocal raced
        if not raced:
            raced = True
            newer = server.store.get("pods", "default", "a")
            assert newer is not None
            newer["metadata"]["labels"] = {"theirs": "1"}
            server.store.put("pods", newer)
        return {"allowed": True}

    async with webhook(race) as url:
        server.webhooks.append(Webhook(url))
        patched = await gateway.merge_patch(PODS, "a", {"metadata": {"labels": {"ours": "1"}}}, namespace="default")
    assert patched.metadata.labels == {"theirs": "1", "ours": "1"}


async def test_validators_guard_objects_status_and_bindings(server: ApiServer, gateway: Gateway, pod: Make) -> None:
    server.tokens["t"] = "mallory"

    def guard(request: Request) -> str | None:
        def assignment(obj: dict[str, Any] | None) -> str | None:
            return ((obj or {}).get("metadata", {}).get("annotations") or {}).get("tessera.io/assignment")

        if request.user == "mallory" and assignment(request.object) != assignment(request.old):
            return f"tessera.io/assignment is the system's ({request.operation} {request.plural}/{request.subresource})"
        return None

    server.validators.append(guard)
    forged = {"metadata": {"annotations": {"tessera.io/assignment": "x"}}}
    async with Gateway(plain(server.url, "t")) as mallory:
        made = await mallory.create(PODS, pod("a"))
        for subresource in ("", "status"):
            with pytest.raises(ApiError, match=f"UPDATE pods/{subresource}"):
                await mallory.merge_patch(PODS, "a", forged, namespace="default", subresource=subresource)
        with pytest.raises(ApiError, match="CREATE pods/binding"):
            await mallory.bind("default", "a", made.metadata.uid, "n", {"tessera.io/assignment": "x"})
        await gateway.bind("default", "a", made.metadata.uid, "n", {"tessera.io/assignment": "x"})
        await mallory.merge_patch(PODS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace="default")
        with pytest.raises(ApiError, match="is the system's"):
            await mallory.merge_patch(PODS, "a", {"metadata": {"annotations": None}}, namespace="default")


async def test_pods_and_job_templates_do_not_change(gateway: Gateway, pod: Make) -> None:
    await gateway.create(PODS, pod("a"))
    with pytest.raises(ApiError, match="pod updates may not change fields"):
        await gateway.merge_patch(PODS, "a", {"spec": {"nodeName": "n"}}, namespace="default")
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    job = {"metadata": {"name": "j", "namespace": "default"}, "spec": {"template": template}}
    await gateway.create(JOBS, job)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}}}
    with pytest.raises(ApiError, match="field is immutable"):
        await gateway.merge_patch(JOBS, "j", patch, namespace="default")


async def test_templates_are_validated_too(gateway: Gateway) -> None:
    limits = {"limits": {"gpu-mem": "4Gi"}}
    template = {"spec": {"containers": [{"name": "c", "image": "i", "resources": limits}]}}
    deployment = {"metadata": {"name": "d", "namespace": "default"}, "spec": {"template": template}}
    with pytest.raises(ApiError, match=r"spec\.template\.spec\.containers\[0\]\.resources\.limits\[gpu-mem\]"):
        await gateway.create(DEPLOYMENTS, deployment)


async def test_priority_classes_are_resolved(gateway: Gateway, pod: Make) -> None:
    await gateway.create(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    made = await gateway.create(PODS, pod("a", priorityClassName="high"))
    assert (made.spec.priority, made.spec.preemption_policy) == (1000, "Never")


async def test_namespaces_must_exist_and_dry_runs_write_nothing(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    with pytest.raises(ApiError) as caught:
        await gateway.create(untyped(PODS), {**pod("a"), "metadata": {"name": "a"}}, namespace="nowhere")
    assert caught.value.not_found
    before = server.store.version
    await gateway.create(PODS, pod("a"), dry_run=True)
    assert server.store.version == before


async def test_fifty_creates_at_once(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await asyncio.gather(*(gateway.create(PODS, pod(f"p{n}")) for n in range(50)))
    assert server.store.count("pods") == 50
