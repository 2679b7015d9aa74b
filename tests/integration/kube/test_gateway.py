"""Each verb, each refusal, and what is known after a lost answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tessera.kube.connection import Connection, FileToken, plain
from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.resources import CONFIG_MAPS, DEPLOYMENTS, GPU_NODES, LEASES, NODES, PODS, for_kind, untyped
from tessera.kube.wire import Lease, LeaseSpec, ObjectMeta
from tessera.simulator.apiserver import ApiServer

Make = Callable[..., dict[str, Any]]


async def uid_of(gateway: Gateway, name: str) -> str:
    return (await gateway.get(PODS, name, namespace="default")).metadata.uid


async def test_create_get_replace_delete(gateway: Gateway, pod: Make) -> None:
    made = await gateway.create(PODS, pod("a", limits={"tessera.io/gpu-mem": "4Gi"}))
    assert made.metadata.uid and made.status.phase == "Pending"
    assert made.spec.containers[0].resources.requests == {"tessera.io/gpu-mem": "4Gi"}
    with pytest.raises(ApiError) as caught:
        await gateway.create(PODS, pod("a"))
    assert caught.value.already_exists and not caught.value.conflict
    full = await gateway.get(untyped(PODS), "a", namespace="default")
    full["metadata"]["labels"] = {"x": "y"}
    await gateway.replace(untyped(PODS), full)
    with pytest.raises(ApiError) as caught:
        await gateway.replace(untyped(PODS), full)
    assert caught.value.conflict
    with pytest.raises(ApiError) as caught:
        await gateway.delete(PODS, "a", namespace="default", uid="another")
    assert caught.value.conflict
    await gateway.delete(PODS, "a", namespace="default", uid=made.metadata.uid)
    with pytest.raises(ApiError) as caught:
        await gateway.get(PODS, "a", namespace="default")
    assert caught.value.not_found


async def test_patches_of_node_status_and_annotations(gateway: Gateway, server: ApiServer) -> None:
    await gateway.create(NODES, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}})
    capacity = {"tessera.io/gpu-mem": "80Gi"}
    await gateway.merge_patch(NODES, "n", {"status": {"capacity": capacity}}, subresource="status")
    await gateway.merge_patch(
        NODES, "n", {"metadata": {"annotations": {"a/b": "1"}}, "status": {"capacity": {"x": "1"}}}
    )
    node = await gateway.get(NODES, "n")
    assert node.status.capacity == {"cpu": "4", "tessera.io/gpu-mem": "80Gi"}
    assert node.metadata.annotations == {"a/b": "1"}
    operations = [
        {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
        {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
    ]
    assert (await gateway.json_patch(NODES, "n", operations)).metadata.annotations == {"a/b": "2"}
    with pytest.raises(ApiError) as caught:
        await gateway.json_patch(NODES, "n", operations)
    assert caught.value.invalid
    before = server.store.version
    await gateway.merge_patch(NODES, "n", {"metadata": {"annotations": {"a/b": "2"}}})
    assert server.store.version == before, "a patch that changes nothing makes no event"


async def test_apply_creates_changes_and_takes_back(gateway: Gateway) -> None:
    config = {"metadata": {"name": "m", "namespace": "default"}, "data": {"a": "1", "b": "2"}}
    await gateway.apply(CONFIG_MAPS, config, field_manager="one")
    await gateway.merge_patch(CONFIG_MAPS, "m", {"data": {"other": "x"}}, namespace="default")
    config["data"] = {"a": "3"}
    applied = await gateway.apply(CONFIG_MAPS, config, field_manager="one")
    assert applied["data"] == {"a": "3", "other": "x"}


async def test_a_gpu_nodes_status_is_written_by_its_own_request(gateway: Gateway) -> None:
    node = {"metadata": {"name": "n"}, "status": {"model": "A100"}}
    assert (await gateway.apply(GPU_NODES, node, field_manager="agent")).status.model == ""
    assert (await gateway.apply(GPU_NODES, node, field_manager="agent", subresource="status")).status.model == "A100"
    assert (await gateway.apply(GPU_NODES, node, field_manager="agent")).status.model == "A100"


async def test_a_binding_is_one_write_and_fenced(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await gateway.create(PODS, pod("a"))
    uid = await uid_of(gateway, "a")
    with pytest.raises(ApiError) as caught:
        await gateway.bind("default", "a", "another-uid", "n1", {})
    assert caught.value.conflict
    before = server.store.version
    await gateway.bind("default", "a", uid, "n1", {"tessera.io/assignment": "{}"})
    assert server.store.version == before + 1
    bound = await gateway.get(PODS, "a", namespace="default")
    assert (bound.spec.node_name, bound.metadata.annotations) == ("n1", {"tessera.io/assignment": "{}"})
    with pytest.raises(ApiError, match="already assigned") as caught:
        await gateway.bind("default", "a", uid, "n2", {})
    assert caught.value.conflict


async def test_gated_and_dying_pods_cannot_be_bound(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await gateway.create(PODS, pod("gated", schedulingGates=[{"name": "g"}]))
    with pytest.raises(ApiError, match="schedulingGates"):
        await gateway.bind("default", "gated", await uid_of(gateway, "gated"), "n", {})
    await gateway.create(
        PODS, {**pod("dying"), "metadata": {"name": "dying", "finalizers": ["x/y"]}}, namespace="default"
    )
    uid = await uid_of(gateway, "dying")
    await gateway.delete(PODS, "dying", namespace="default")
    with pytest.raises(ApiError, match="being deleted"):
        await gateway.bind("default", "dying", uid, "n", {})
    await gateway.merge_patch(PODS, "dying", {"metadata": {"finalizers": None}}, namespace="default")
    assert server.store.get("pods", "default", "dying") is None


async def test_a_running_pod_waits_for_its_kubelet(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await gateway.create(PODS, pod("a"))
    await gateway.bind("default", "a", await uid_of(gateway, "a"), "n", {})
    await gateway.evict("default", "a", uid=await uid_of(gateway, "a"), grace_period_s=7)
    dying = await gateway.get(PODS, "a", namespace="default")
    assert dying.metadata.deletion_timestamp and dying.metadata.deletion_grace_period_seconds == 7
    await gateway.delete(PODS, "a", namespace="default", grace_period_s=0)
    assert server.store.get("pods", "default", "a") is None


async def test_an_eviction_against_a_budget(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await gateway.create(PODS, pod("a"))
    server.handlers.refuse_eviction = lambda _pod: "The budget needs 1 healthy pod"
    with pytest.raises(ApiError) as caught:
        await gateway.evict("default", "a")
    assert caught.value.too_many_requests and caught.value.temporary


async def test_a_lost_answer_to_a_bind_is_an_unknown_outcome_that_a_get_decides(
    gateway: Gateway, server: ApiServer, pod: Make
) -> None:
    await gateway.create(PODS, pod("a"))
    uid = await uid_of(gateway, "a")
    server.faults.lose_answers(1, verb="bind")
    with pytest.raises(UnknownOutcome):
        await gateway.bind("default", "a", uid, "n1", {"k": "v"})
    assert (await gateway.get(PODS, "a", namespace="default")).spec.node_name == "n1"


async def test_a_bind_that_takes_too_long_is_an_unknown_outcome(gateway: Gateway, server: ApiServer, pod: Make) -> None:
    await gateway.create(PODS, pod("a"))
    uid = await uid_of(gateway, "a")
    server.faults.delay_next(1, 30.0, verb="bind")
    with pytest.raises(UnknownOutcome, match=r"no answer within 0\.1 s"):
        await gateway.bind("default", "a", uid, "n1", {}, timeout_s=0.1)


async def test_a_server_error_to_a_write_is_unknown_and_to_a_read_is_not(gateway: Gateway, server: ApiServer) -> None:
    server.faults.fail_next(1, 500)
    with pytest.raises(UnknownOutcome):
        await gateway.create(CONFIG_MAPS, {"metadata": {"name": "m", "namespace": "default"}})
    server.faults.fail_next(1, 503)
    with pytest.raises(ApiError) as caught:
        await gateway.list(PODS)
    assert caught.value.temporary


async def test_a_lost_answer_to_a_read_changed_nothing(gateway: Gateway, server: ApiServer) -> None:
    server.faults.lose_answers(5, verb="list")
    with pytest.raises(Unreachable):
        await gateway.list(PODS)


async def test_nobody_listens() -> None:
    async with Gateway(plain("http://127.0.0.1:1")) as gateway:
        with pytest.raises(Unreachable):
            await gateway.create(CONFIG_MAPS, {"metadata": {"name": "m", "namespace": "default"}})


async def test_a_refused_token_is_read_again_and_the_request_repeated_once(server: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    server.require_tokens = True
    server.tokens["old"] = "system:serviceaccount:tessera:agent"
    async with Gateway(Connection(server.url, None, FileToken(path))) as gateway:
        await gateway.list(PODS)
        server.tokens.clear()
        server.tokens["new"] = "system:serviceaccount:tessera:agent"
        with pytest.raises(ApiError) as caught:
            await gateway.list(PODS)
        assert caught.value.unauthorized
        path.write_text("new")
        await gateway.create(CONFIG_MAPS, {"metadata": {"name": "m", "namespace": "default"}})
    assert server.store.get("configmaps", "default", "m") is not None


async def test_pages_are_one_snapshot_and_expire(gateway: Gateway, server: ApiServer) -> None:
    for index in range(7):
        await gateway.create(NODES, {"metadata": {"name": f"n{index}"}})
    seen: list[str] = []
    async for page in gateway.list_pages(NODES, limit=3):
        seen += [node.metadata.name for node in page.items]
        server.store.remove("nodes", "", "n6")
    assert seen == [f"n{index}" for index in range(7)]
    assert len(await gateway.list(NODES)) == 6

    async def interrupted() -> AsyncIterator[int]:
        async for page in gateway.list_pages(NODES, limit=3):
            yield len(page.items)
            server.store.remove("nodes", "", "n5")
            server.compact()

    with pytest.raises(ApiError) as caught:
        [count async for count in interrupted()]
    assert caught.value.gone


async def test_selectors(gateway: Gateway, pod: Make) -> None:
    for index in range(3):
        labels = {"app": "x" if index else "y"}
        await gateway.create(
            PODS, {**pod("p"), "metadata": {"name": f"p{index}", "labels": labels}}, namespace="default"
        )
    await gateway.bind("default", "p2", await uid_of(gateway, "p2"), "n1", {})

    async def names(**selectors: str) -> list[str]:
        return [p.metadata.name for p in await gateway.list(PODS, **selectors)]

    assert await names(label_selector="app=x") == ["p1", "p2"]
    assert await names(label_selector="app in (y,z),app!=x") == ["p0"]
    assert await names(field_selector="spec.nodeName=n1") == ["p2"]
    assert await names(field_selector="spec.nodeName!=n1,status.phase=Pending") == ["p0", "p1"]
    assert await names(namespace="kube-system") == []
    with pytest.raises(ApiError, match="not supported"):
        await names(field_selector="spec.color=red")


async def test_a_watch_gives_lines_of_any_length(gateway: Gateway, server: ApiServer) -> None:
    big = {"metadata": {"name": "big", "namespace": "default"}, "data": {"x": "y" * 900_000}}
    async with gateway.watch(CONFIG_MAPS, str(server.store.version), timeout_s=5) as lines:
        await gateway.create(CONFIG_MAPS, big)
        async with asyncio.timeout(5):
            line = await anext(aiter(lines))
    assert len(line) > 900_000


async def test_typed_leases_are_written_whole(gateway: Gateway) -> None:
    lease = Lease(metadata=ObjectMeta(name="l", namespace="default"), spec=LeaseSpec(holder_identity="me"))
    made = await gateway.create(LEASES, lease)
    assert (await gateway.replace(LEASES, made)).spec.holder_identity == "me"


async def test_manifests_find_their_collection(gateway: Gateway) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    manifest = {"metadata": {"generateName": "d-", "namespace": "default"}, "spec": {"template": template}}
    made = await gateway.create(for_kind("apps/v1", "Deployment"), manifest)
    assert made["metadata"]["name"].startswith("d-") and len(made["metadata"]["name"]) == 7
    assert len(await gateway.list(DEPLOYMENTS)) == 1
    with pytest.raises(ValueError, match="kind: found v1 Gpu; allowed"):
        for_kind("v1", "Gpu")
