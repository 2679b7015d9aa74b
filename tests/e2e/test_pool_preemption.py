"""Of a pod on the GPU's node and one whose slice is there but which runs elsewhere, the more important has the room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tessera.model.quantities import GIB, parse_milli
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import CLIENT, GPUS, Pooled
from tests.e2e.product.seen import assert_sees_its_own, given
from tests.e2e.trainings import executor_of, lease_of, middle, nothing_is_left, trained, trainer

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]
HIGH = "takes-leases"
L4 = {"tessera.io/gpu-model": "NVIDIA L4"}


@pytest.fixture(scope="module", autouse=True)
def high(pooled: Pooled) -> Iterator[None]:
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": HIGH}, "value": 1000}
    pooled.cluster.api.create(body)
    yield
    pooled.cluster.api.delete("PriorityClass", HIGH, version="scheduling.k8s.io/v1")


def victim(mem: str = "2Gi") -> Json:
    """Trains without end on the L4, and takes some seconds to go."""
    body = trainer("far", mem, pause_s=0.2, steps=100_000)
    body["metadata"]["annotations"] |= L4
    body["spec"]["terminationGracePeriodSeconds"] = 4
    return body


def told(pod: Json) -> str:
    """Why it is to go, once it has been asked to."""
    found = [each for each in pod["status"].get("conditions", []) if each["type"] == "DisruptionTarget"]
    asked = "deletionTimestamp" in pod["metadata"]
    return found[0]["message"] if found and asked else ""


def all_of_it_goes(pool: Pooled, guest: Api) -> None:
    guest.wait_gone("Pod", "far")
    wait_until("lease and executor to be gone", lambda: not pool.leases() and not pool.executors())


def nothing_is_left_after(pool: Pooled, guest: Api, name: str) -> None:
    guest.delete("Pod", name)
    wait_until("nothing to be left", lambda: nothing_is_left(pool), timeout_s=90)


def test_it_takes_the_room_of_the_lease_and_the_client_goes_with_all_it_has(pooled: Pooled, guest: Api) -> None:
    guest.create(victim("20Gi"))
    pod = middle(guest, "far")
    lease = lease_of(pooled, pod)
    assert (pod["spec"]["nodeName"], lease["spec"]["slice"]["node"]) == (CLIENT, GPUS)
    container = pods.container(limits={"gpu-mem": "20Gi"})
    guest.create(pods.pod("high", container, annotations=L4, priorityClassName=HIGH))
    going = guest.wait("Pod", "far", told)
    assert f"{guest.namespace}/high" in told(going), told(going)
    all_of_it_goes(pooled, guest)
    found = guest.wait("Pod", "high", pods.running)
    (share,) = given(found)
    assert (share.uuid, share.mem_bytes) == (lease["spec"]["slice"]["gpuUUID"], 20 * GIB)
    assert_sees_its_own(guest, found)
    event = wait_until("Preempted event", lambda: [e for e in guest.events("far") if e["reason"] == "Preempted"])
    assert f"by {guest.namespace}/high (priority 1000)" in event[0]["message"] and GPUS in event[0]["message"]
    nothing_is_left_after(pooled, guest, "high")


def test_where_kube_scheduler_takes_the_executors_cpu_the_client_goes_too(pooled: Pooled, guest: Api) -> None:
    guest.create(victim())
    executor = executor_of(pooled, lease_of(pooled, middle(guest, "far")))
    there = pooled.cluster.api.items("Pod", everywhere=True, fieldSelector=f"spec.nodeName={GPUS}")
    allocatable = pooled.cluster.api.get("Node", GPUS)["status"]["allocatable"]["cpu"]
    left = parse_milli(allocatable) - cpu_of(there)
    container = pods.container()
    container["resources"] = {"requests": {"cpu": f"{left + cpu_of([executor])}m"}}
    guest.create(pods.pod("high", container, node=GPUS, priorityClassName=HIGH))
    going = guest.wait("Pod", "far", told)
    assert executor["metadata"]["name"] in told(going), told(going)
    all_of_it_goes(pooled, guest)
    guest.wait("Pod", "high", pods.running)
    event = wait_until("Preempted event", lambda: [e for e in guest.events("far") if e["reason"] == "Preempted"])
    assert f"with its executor {executor['metadata']['namespace']}/" in event[0]["message"]
    nothing_is_left_after(pooled, guest, "high")


def test_a_pod_whose_slice_is_to_be_there_takes_the_room_of_a_local_one(pooled: Pooled, guest: Api) -> None:
    guest.create(pods.pod("low", pods.container(limits={"gpu-mem": "20Gi"}), annotations=L4))
    (share,) = given(guest.wait("Pod", "low", pods.running))
    body = trainer("far", "20Gi")
    body["metadata"]["annotations"] |= L4
    body["spec"]["priorityClassName"] = HIGH
    guest.create(body)
    guest.wait_gone("Pod", "low")
    lease = lease_of(pooled, middle(guest, "far"))
    assert (lease["spec"]["slice"]["node"], lease["spec"]["slice"]["gpuUUID"]) == (GPUS, share.uuid)
    event = wait_until("Preempted event", lambda: [e for e in guest.events("low") if e["reason"] == "Preempted"])
    assert f"by {guest.namespace}/far (priority 1000)" in event[0]["message"]
    trained(guest, "far")
    nothing_is_left_after(pooled, guest, "far")


def cpu_of(found: Iterable[Json]) -> int:
    """Milli-CPU that the pods request."""
    containers = [each for pod in found for each in pod["spec"]["containers"]]
    return sum(parse_milli(each.get("resources", {}).get("requests", {}).get("cpu", 0)) for each in containers)
