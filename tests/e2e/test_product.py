"""A pod that asks for `gpu-mem: 4Gi` runs with its own slice, seen from inside the container."""

from __future__ import annotations

from collections import Counter

import pytest

from tessera.model.quantities import GIB, MIB, parse_whole
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_sees_its_own, bytes_by_gpu, given

pytestmark = pytest.mark.e2e


def waiting(name: str) -> Json:
    """A pod that no GPU suits, and that every kubelet would take."""
    return pods.pod(name, pods.container(limits={"gpu-mem": "1Gi"}), annotations={"tessera.io/gpu-model": "none"})


def test_a_bare_pod_with_the_short_form_runs_with_its_own_slice(product: Product, tenant: Api) -> None:
    tenant.create(pods.pod("plain", pods.container(limits={"gpu-mem": "4Gi"})))
    pod = tenant.wait("Pod", "plain", pods.running)
    (share,) = given(pod)
    assert share.uuid in product.uuids() and share.mem_bytes == 4 * GIB
    assert_sees_its_own(tenant, pod)


def test_a_deployment_with_the_short_form_runs(product: Product, tenant: Api) -> None:
    tenant.create(pods.deployment("web", 3, pods.pod("web", pods.container(limits={"gpu-mem": "4Gi"}))))
    tenant.wait("Deployment", "web", lambda d: d["status"].get("readyReplicas") == 3, version="apps/v1")
    found = tenant.items("Pod", labelSelector="app=web")
    assert len(found) == 3
    for pod in found:
        assert_sees_its_own(tenant, pod)


def test_two_containers_each_get_their_own_slice(product: Product, tenant: Api) -> None:
    first = pods.container("first", limits={"gpu-mem": "2Gi", "gpu-core": 20})
    second = pods.container("second", limits={"gpu-mem": "3Gi"})
    tenant.create(pods.pod("pair", first, second))
    pod = tenant.wait("Pod", "pair", pods.running)
    assert (given(pod, "first")[0].mem_bytes, given(pod, "first")[0].core_percent) == (2 * GIB, 20)
    assert (given(pod, "second")[0].mem_bytes, given(pod, "second")[0].core_percent) == (3 * GIB, 0)
    assert_sees_its_own(tenant, pod, "first")
    assert_sees_its_own(tenant, pod, "second")


def test_a_slice_over_two_gpus_and_a_whole_gpu(product: Product, tenant: Api) -> None:
    tenant.create(
        pods.pod("two", pods.container(limits={"gpu-mem": "8Gi", "gpu-core": 40, "gpu-count": 2})),
        pods.pod("whole", pods.container(limits={"gpu": 1})),
    )
    found = pods.wait_all(tenant, ["two", "whole"])
    assert [(s.mem_bytes, s.core_percent) for s in given(found["two"])] == [(4 * GIB, 20)] * 2
    assert given(found["whole"])[0].whole
    assert given(found["whole"])[0].uuid not in {s.uuid for s in given(found["two"])}
    for pod in found.values():
        assert_sees_its_own(tenant, pod)


def test_the_node_says_what_it_offers(product: Product, tenant: Api) -> None:
    for name, node in product.gpu_nodes().items():
        gpus = node["status"]["gpus"]
        allocatable = tenant.get("Node", name)["status"]["allocatable"]
        assert [gpu["uuid"] for gpu in gpus] == product.machines[name].uuids
        assert int(allocatable["tessera.io/gpu"]) == len(gpus)
        assert int(allocatable["tessera.io/gpu-core"]) == 100 * len(gpus)
        assert parse_whole(allocatable["tessera.io/gpu-mem"]) == sum(int(gpu["memoryBytes"]) for gpu in gpus)


def test_fifty_different_slices_at_once_and_every_container_sees_its_own(product: Product, tenant: Api) -> None:
    wanted = {f"p{i:02}": (200 + i) * MIB for i in range(50)}
    # Packed they would all fit on one GPU: each kubelet is to have its half at the same moment.
    nodes = sorted(product.machines)
    _, seconds = pods.burst(
        tenant,
        [
            pods.pod(name, pods.container(limits={"gpu-mem": str(mem_bytes)}), node=nodes[i % 2])
            for i, (name, mem_bytes) in enumerate(wanted.items())
        ],
    )
    print(f"50 pods Running in {seconds:.1f} s")
    found = {pod["metadata"]["name"]: pod for pod in tenant.items("Pod")}
    assert Counter(pod["spec"]["nodeName"] for pod in found.values()) == dict.fromkeys(nodes, 25)
    for name, pod in found.items():
        assert [share.mem_bytes for share in given(pod)] == [wanted[name]]
        assert_sees_its_own(tenant, pod)
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    room = {gpu["uuid"]: int(gpu["memoryBytes"]) for n in product.gpu_nodes().values() for gpu in n["status"]["gpus"]}
    assert all(held <= room[uuid] for uuid, held in bytes_by_gpu(found.values()).items())


@pytest.mark.parametrize("name", ["NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "TESSERA_SLICE", "LD_PRELOAD"])
def test_a_pod_that_sets_a_reserved_variable_is_refused(product: Product, tenant: Api, name: str) -> None:
    with pytest.raises(ApiError, match=name):
        tenant.create(pods.pod("sly", pods.container(limits={"gpu-mem": "1Gi"}, env={name: "all"})))


def test_a_pod_bound_by_its_author_is_refused(product: Product, tenant: Api) -> None:
    with pytest.raises(ApiError, match=r"spec\.nodeName"):
        tenant.create(pods.pod("sly", pods.container(limits={"gpu-mem": "1Gi"}), nodeName="node-a"))


def test_a_forged_assignment_is_refused_on_pods_and_on_bindings(product: Product, tenant: Api) -> None:
    forged = {"tessera.io/assignment": '{"version":1,"containers":{}}'}
    with pytest.raises(ApiError, match=r"tessera\.io/assignment"):
        tenant.create(pods.pod("sly", pods.container(limits={"gpu-mem": "1Gi"}), annotations=forged))
    tenant.create(waiting("waits"))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waits", "annotations": forged},
               "target": {"apiVersion": "v1", "kind": "Node", "name": "node-a"}}  # fmt: skip
    with pytest.raises(ApiError, match=r"tessera\.io/assignment"):
        tenant.request("POST", tenant.path("Pod", "waits", sub="binding"), binding)


def test_a_binding_by_somebody_else_never_starts_and_says_why(product: Product, tenant: Api) -> None:
    tenant.create(waiting("stray"))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "stray"},
               "target": {"apiVersion": "v1", "kind": "Node", "name": "node-a"}}  # fmt: skip
    tenant.request("POST", tenant.path("Pod", "stray", sub="binding"), binding)
    tenant.wait_gone("Pod", "stray", timeout_s=90)
    told = [event for event in tenant.events("stray") if "assignment" in event["message"]]
    assert told, [event["message"] for event in tenant.events("stray")]
