"""What the components rely on, asked of both API servers."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tessera.kube.convert import gpu_node_object, told_gpu_node_of
from tessera.kube.errors import ApiError
from tessera.kube.events import EventRecorder, reference
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.reflector import Change, Deleted, Reflector, Replaced, Upserted
from tessera.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    EVENTS,
    GPU_NODES,
    JOBS,
    NODES,
    PODS,
    Plain,
    untyped,
)
from tessera.model.gpus import Gpu, GpuCondition, GpuNode, Health


def pod(name: str, **more: Any) -> Plain:
    limits = more.pop("limits", {})
    resources = more.pop("container_resources", {"limits": limits} if limits else {})
    meta = {"name": name, **more.pop("metadata", {})}
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}], **more}}


async def refusal(request: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await request
    return caught.value


async def test_writes_and_their_refusals(gateway: Gateway, namespace: str) -> None:
    made = await gateway.create(untyped(PODS), pod("a"), namespace=namespace)
    assert made["status"]["phase"] == "Pending" and made["spec"]["schedulerName"] == "default-scheduler"
    assert made["spec"]["priority"] == 0 and made["spec"]["preemptionPolicy"] == "PreemptLowerPriority"
    assert (await refusal(gateway.create(PODS, pod("a"), namespace=namespace))).already_exists
    made["metadata"]["labels"] = {"x": "y"}
    await gateway.replace(untyped(PODS), made)
    assert (await refusal(gateway.replace(untyped(PODS), made))).conflict
    assert (await refusal(gateway.delete(PODS, "a", namespace=namespace, uid="other"))).conflict
    await gateway.delete(PODS, "a", namespace=namespace, uid=made["metadata"]["uid"])
    assert (await refusal(gateway.get(PODS, "a", namespace=namespace))).not_found
    assert (await refusal(gateway.create(PODS, pod("a"), namespace="nowhere-at-all"))).not_found
    assert (await refusal(gateway.create(PODS, pod("Capital"), namespace=namespace))).invalid


async def test_bindings(gateway: Gateway, namespace: str) -> None:
    made = await gateway.create(PODS, pod("a", metadata={"annotations": {"own": "1"}}), namespace=namespace)
    uid = made.metadata.uid
    assert (await refusal(gateway.bind(namespace, "a", "other", "n1", {}))).conflict
    await gateway.bind(namespace, "a", uid, "n1", {"tessera.io/assignment": "{}"})
    bound = await gateway.get(PODS, "a", namespace=namespace)
    assert bound.spec.node_name == "n1"
    assert bound.metadata.annotations == {"own": "1", "tessera.io/assignment": "{}"}
    again = await refusal(gateway.bind(namespace, "a", uid, "n2", {}))
    assert again.conflict and "already assigned to node" in again.message
    assert (await refusal(gateway.bind(namespace, "missing", uid, "n2", {}))).not_found
    gated = await gateway.create(PODS, pod("g", schedulingGates=[{"name": "a/b"}]), namespace=namespace)
    assert (await refusal(gateway.bind(namespace, "g", gated.metadata.uid, "n", {}))).conflict
    dying = await gateway.create(PODS, pod("d", metadata={"finalizers": ["a.b/c"]}), namespace=namespace)
    await gateway.delete(PODS, "d", namespace=namespace)
    assert (await refusal(gateway.bind(namespace, "d", dying.metadata.uid, "n", {}))).conflict
    await gateway.merge_patch(PODS, "d", {"metadata": {"finalizers": None}}, namespace=namespace)
    assert (await refusal(gateway.get(PODS, "d", namespace=namespace))).not_found


async def test_a_bound_pod_stays_until_its_kubelet_lets_go(gateway: Gateway, namespace: str) -> None:
    made = await gateway.create(PODS, pod("a"), namespace=namespace)
    await gateway.bind(namespace, "a", made.metadata.uid, "n1", {})
    assert (await refusal(gateway.evict(namespace, "a", uid="other"))).conflict
    await gateway.evict(namespace, "a", uid=made.metadata.uid, grace_period_s=9)
    dying = await gateway.get(PODS, "a", namespace=namespace)
    assert dying.metadata.deletion_timestamp and dying.metadata.deletion_grace_period_seconds == 9
    await gateway.delete(PODS, "a", namespace=namespace, grace_period_s=0)
    assert (await refusal(gateway.get(PODS, "a", namespace=namespace))).not_found


async def test_an_eviction_spends_its_budget_and_the_refusal_names_it(gateway: Gateway, namespace: str) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "w"}}}
    made = await gateway.create(DISRUPTION_BUDGETS, {"metadata": {"name": "b"}, "spec": spec}, namespace=namespace)
    status = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
              "observedGeneration": made["metadata"]["generation"]}  # fmt: skip
    await gateway.merge_patch(DISRUPTION_BUDGETS, "b", {"status": status}, namespace=namespace, subresource="status")
    for name in ("a1", "a2"):
        created = await gateway.create(PODS, pod(name, metadata={"labels": {"app": "w"}}), namespace=namespace)
        await gateway.bind(namespace, name, created.metadata.uid, "n1", {})
        running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await gateway.merge_patch(untyped(PODS), name, running, namespace=namespace, subresource="status")
    await gateway.evict(namespace, "a1")
    error = await refusal(gateway.evict(namespace, "a2"))
    assert error.too_many_requests and "as it would violate the pod's disruption budget." in error.message
    assert error.causes == ("The disruption budget b does not allow evicting pods currently",)
    less = {"status": {"currentHealthy": 1}}
    await gateway.merge_patch(DISRUPTION_BUDGETS, "b", less, namespace=namespace, subresource="status")
    error = await refusal(gateway.evict(namespace, "a2"))
    assert error.causes == ("The disruption budget b needs 1 healthy pods and has 1 currently",)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"limits": {"gpu-mem": "4Gi"}}, "spec.containers[0].resources.limits[gpu-mem]"),
        ({"limits": {"gpu-mem": "4Gi"}}, "must be a standard resource type or fully qualified"),
        ({"limits": {"gpu-mem": "4Gi"}}, "must be a standard resource for containers"),
        ({"limits": {"tessera.io/gpu-mem": "500m"}}, "must be an integer"),
        ({"limits": {"tessera.io/gpu-mem": "-1"}}, "must be greater than or equal to 0"),
        ({"requests": {"tessera.io/gpu-mem": "4Gi"}}, "Limit must be set for non overcommitable resources"),
        ({"limits": {"tessera.io/gpu": 2}, "requests": {"tessera.io/gpu": 1}}, "must be equal to tessera.io/gpu limit"),
    ],
)
async def test_resource_names_and_quantities(gateway: Gateway, namespace: str, resources: Plain, words: str) -> None:
    error = await refusal(gateway.create(PODS, pod("a", container_resources=resources), namespace=namespace))
    assert error.invalid and words in error.message


async def test_requests_follow_limits_in_pods_but_not_in_templates(gateway: Gateway, namespace: str) -> None:
    made = await gateway.create(PODS, pod("a", limits={"tessera.io/gpu-mem": "4Gi"}), namespace=namespace)
    assert made.spec.containers[0].resources.requests == {"tessera.io/gpu-mem": "4Gi"}
    level = await refusal(
        gateway.create(PODS, pod("b", resources={"limits": {"tessera.io/gpu-mem": "4Gi"}}), namespace=namespace)
    )
    assert level.invalid and "spec.resources.limits[tessera.io/gpu-mem]" in level.message
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x", limits={"tessera.io/gpu-mem": "4Gi"})["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    stored = await gateway.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, namespace=namespace)
    (container,) = stored["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"tessera.io/gpu-mem": "4Gi"}}
    assert stored["spec"]["template"]["spec"]["schedulerName"] == "default-scheduler"


async def test_what_does_not_change(gateway: Gateway, namespace: str) -> None:
    await gateway.create(PODS, pod("a"), namespace=namespace)
    patch = {"spec": {"nodeName": "n"}}
    error = await refusal(gateway.merge_patch(PODS, "a", patch, namespace=namespace))
    assert error.invalid and "pod updates may not change fields other than" in error.message
    before = await gateway.get(PODS, "a", namespace=namespace)
    after = await gateway.merge_patch(PODS, "a", {"metadata": {"labels": None}}, namespace=namespace)
    assert after.metadata.resource_version == before.metadata.resource_version
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {**pod("x")["spec"], "restartPolicy": "Never"}}}}
    await gateway.create(JOBS, job, namespace=namespace)
    patch = {"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}}
    error = await refusal(gateway.merge_patch(JOBS, "j", patch, namespace=namespace))
    assert error.invalid and "field is immutable" in error.message


async def test_status_and_the_rest_are_written_apart(gateway: Gateway, namespace: str) -> None:
    await gateway.create(NODES, {"metadata": {"name": namespace}, "status": {"capacity": {"cpu": "4"}}})
    sizes = {"capacity": {"tessera.io/gpu-mem": "80Gi"}, "allocatable": {"tessera.io/gpu-mem": "80Gi"}}
    await gateway.merge_patch(NODES, namespace, {"status": sizes}, subresource="status")
    await gateway.merge_patch(NODES, namespace, {"status": {"capacity": {"tessera.io/gpu-mem": "1Gi"}}})
    node = await gateway.get(NODES, namespace)
    assert node.status.capacity == {"cpu": "4", "tessera.io/gpu-mem": "80Gi"}
    await gateway.create(PODS, pod("a"), namespace=namespace)
    patch = {"metadata": {"annotations": {"k": "v"}}, "status": {"phase": "Running"}}
    changed = await gateway.merge_patch(PODS, "a", patch, namespace=namespace, subresource="status")
    assert (changed.status.phase, changed.metadata.annotations) == ("Running", {"k": "v"})


async def test_a_gpu_node(gateway: Gateway, namespace: str) -> None:
    stands = (GpuCondition("SliceFilesChanged", "written again"),)
    gpus = (Gpu("GPU-1", "A100", 39 << 30, 40 << 30, 108, "8.0", 0, ("GPU-2",), Health(False, "Xid 79"), -1,
                conditions=stands),)  # fmt: skip
    obj = gpu_node_object(GpuNode(namespace, gpus), {"GPU-1": 1 << 30}, datetime(2026, 1, 1, tzinfo=UTC))
    assert (await gateway.apply(GPU_NODES, obj, field_manager="tests")).status.gpus == []
    await gateway.apply(GPU_NODES, obj, field_manager="tests", subresource="status")
    stored = await gateway.get(GPU_NODES, namespace)
    assert stored.status == obj.status and told_gpu_node_of(stored).gpus == gpus
    fewer = gpu_node_object(GpuNode(namespace, ()), {}, datetime(2026, 1, 1, tzinfo=UTC))
    assert (await gateway.apply(GPU_NODES, fewer, field_manager="tests", subresource="status")).status.gpus == []


async def test_apply_owns_what_it_wrote(gateway: Gateway, namespace: str) -> None:
    config: Plain = {"metadata": {"name": "m", "namespace": namespace}, "data": {"a": "1", "b": "2"}}
    await gateway.apply(CONFIG_MAPS, config, field_manager="one")
    await gateway.merge_patch(CONFIG_MAPS, "m", {"data": {"other": "x"}}, namespace=namespace)
    applied = await gateway.apply(CONFIG_MAPS, {**config, "data": {"a": "3"}}, field_manager="one")
    assert applied["data"] == {"a": "3", "other": "x"}


async def test_json_patches(gateway: Gateway, namespace: str) -> None:
    meta = {"name": "m", "annotations": {"a/b": "1"}}
    await gateway.create(CONFIG_MAPS, {"metadata": meta}, namespace=namespace)
    operations = [
        {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
        {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
    ]
    changed = await gateway.json_patch(CONFIG_MAPS, "m", operations, namespace=namespace)
    assert changed["metadata"]["annotations"] == {"a/b": "2"}
    assert (await refusal(gateway.json_patch(CONFIG_MAPS, "m", operations, namespace=namespace))).invalid


async def test_pages_show_one_moment(gateway: Gateway, namespace: str) -> None:
    for index in range(5):
        await gateway.create(CONFIG_MAPS, {"metadata": {"name": f"c{index}"}}, namespace=namespace)
    seen: list[str] = []
    versions = set()
    async for page in gateway.list_pages(CONFIG_MAPS, namespace=namespace, limit=2):
        seen += [item["metadata"]["name"] for item in page.items]
        versions.add(page.resource_version)
        if len(seen) == 2:
            await gateway.delete(CONFIG_MAPS, "c4", namespace=namespace)
    assert [name for name in seen if name.startswith("c")] == [f"c{index}" for index in range(5)]
    assert len(versions) == 1
    bad = await refusal(gateway.list_page(PODS, namespace=namespace, field_selector="spec.color=red"))
    assert bad.status == 400


async def test_a_node_hears_of_its_pods_only(gateway: Gateway, namespace: str) -> None:
    heard: list[tuple[type, str]] = []
    woken = asyncio.Event()

    def sink(change: Change[Plain]) -> None:
        if not isinstance(change, Replaced):
            heard.append((type(change), change.object["metadata"]["name"]))
            woken.set()

    selector = f"spec.nodeName={namespace}"
    reflector = Reflector(gateway, untyped(PODS), sink, field_selector=selector, rng=random.Random(1))
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.wait_synced(), 20)
    for name, node in (("other", "elsewhere"), ("mine", namespace)):
        made = await gateway.create(PODS, pod(name), namespace=namespace)
        await gateway.bind(namespace, name, made.metadata.uid, node, {})
    await gateway.delete(PODS, "mine", namespace=namespace, grace_period_s=0)
    async with asyncio.timeout(20):
        while not heard or heard[-1][0] is not Deleted:
            woken.clear()
            await woken.wait()
    task.cancel()
    assert {name for _, name in heard} == {"mine"}
    assert heard[0] == (Upserted, "mine")


async def test_bookmarks_are_sent_at_the_latest_before_the_end(gateway: Gateway, namespace: str) -> None:
    page = await gateway.list_page(PODS, namespace=namespace)
    types: list[str] = []
    async with gateway.watch(PODS, page.resource_version, namespace=namespace, timeout_s=3) as lines:
        async for line in lines:
            types.append(msgspec.json.decode(line)["type"])
    assert set(types) <= {"BOOKMARK"}


async def test_a_lease_changes_hands(gateway: Gateway, namespace: str) -> None:
    one, two = (LeaderLease(gateway, namespace, "tessera", name) for name in ("one", "two"))
    await one.step()
    await two.step()
    assert one.leading and not two.leading and two.holder == "one"
    await one.step()
    await one.release()
    await two.step()
    assert two.leading and two.epoch == 1


async def test_events_are_counted(gateway: Gateway, namespace: str) -> None:
    made = await gateway.create(PODS, pod("a"), namespace=namespace)
    node = await gateway.apply(untyped(NODES), {"metadata": {"name": namespace}}, field_manager="tests")
    recorder = EventRecorder(gateway, "tessera-scheduler", host="h")
    task = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.record(reference(PODS, made), "Warning", "NoRoom", "412 GPUs: 380 not enough memory")
    recorder.record(reference(NODES, node), "Normal", "Ready", "text")
    await asyncio.wait_for(recorder.flush(), 20)
    task.cancel()
    assert recorder.dropped == 0
    (event,) = await gateway.list(EVENTS, namespace=namespace)
    assert (event.reason, event.count, event.involved_object.uid) == ("NoRoom", 3, made.metadata.uid)


async def test_dry_runs_write_nothing(gateway: Gateway, namespace: str) -> None:
    await gateway.create(PODS, pod("a"), namespace=namespace, dry_run=True)
    assert (await refusal(gateway.get(PODS, "a", namespace=namespace))).not_found
