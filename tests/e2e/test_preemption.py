"""Pods of higher priority take the place of the fewest and lowest, through the real kube-scheduler and kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tessera.model.quantities import GIB
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_sees_its_own, bytes_by_gpu, given

pytestmark = pytest.mark.e2e
CLASSES = {"p-five": (5, "PreemptLowerPriority"), "p-ten": (10, "PreemptLowerPriority"),
           "p-high": (1000, "PreemptLowerPriority"), "p-higher": (2000, "PreemptLowerPriority"),
           "p-never": (1000, "Never")}  # fmt: skip
L4 = {"tessera.io/gpu-model": "NVIDIA L4"}


@pytest.fixture(scope="module", autouse=True)
def classes(product: Product) -> Iterator[None]:
    api = product.cluster.api
    for name, (value, policy) in CLASSES.items():
        body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "preemptionPolicy": policy}  # fmt: skip
        api.create(body)
    yield
    for name in CLASSES:
        api.delete("PriorityClass", name, version="scheduling.k8s.io/v1")


def pod(name: str, mem: str, priority: str, **others: Any) -> Json:
    notes = others.pop("annotations", L4)
    spec = {"priorityClassName": priority, "terminationGracePeriodSeconds": 3, **others}
    return pods.pod(name, pods.container(limits={"gpu-mem": mem}), annotations=notes, **spec)


def run(tenant: Api, *bodies: Json) -> None:
    """One after the other, so that it is known which GPU is left for the next."""
    for body in bodies:
        tenant.create(body)
        tenant.wait("Pod", body["metadata"]["name"], pods.running)


def refused(tenant: Api, name: str) -> None:
    wait_until(f"NoRoom event of {name}", lambda: [e for e in tenant.events(name) if e["reason"] == "NoRoom"])


def names_of(tenant: Api) -> set[str]:
    """Pods that hold room: one whose containers have ended holds none, though its object may still be there."""
    return {each["metadata"]["name"] for each in tenant.items("Pod")
            if each["status"]["phase"] not in ("Succeeded", "Failed")}  # fmt: skip


def nothing_is_over_committed(product: Product) -> None:
    size = {gpu["uuid"]: gpu["memoryBytes"] for node in product.gpu_nodes().values() for gpu in node["status"]["gpus"]}
    held = bytes_by_gpu(product.cluster.api.items("Pod", everywhere=True))
    assert all(held[uuid] <= size[uuid] for uuid in held)


def test_the_lowest_gives_way_and_the_preemptor_runs_in_its_place(product: Product, tenant: Api) -> None:
    run(tenant, pod("ten-1", "20Gi", "p-ten"), pod("ten-2", "20Gi", "p-ten"), pod("five", "20Gi", "p-five"))
    place = given(tenant.get("Pod", "five"))[0].uuid
    tenant.create(pod("high", "20Gi", "p-high"))
    found = tenant.wait("Pod", "high", pods.running)
    assert given(found)[0].uuid == place and given(found)[0].mem_bytes == 20 * GIB
    assert_sees_its_own(tenant, found)
    assert names_of(tenant) == {"ten-1", "ten-2", "high"}
    told = wait_until("Preempted event", lambda: [e for e in tenant.events("five") if e["reason"] == "Preempted"])
    assert isinstance(told, list) and f"by {tenant.namespace}/high (priority 1000)" in told[0]["message"]
    nothing_is_over_committed(product)


def test_one_leaves_rather_than_two_and_a_newcomer_does_not_get_its_room(product: Product, tenant: Api) -> None:
    run(tenant, pod("whole", "20Gi", "p-five"), pod("half-1", "10Gi", "p-five"), pod("half-2", "10Gi", "p-five"),
        pod("ten", "20Gi", "p-ten"))  # fmt: skip
    tenant.create(pod("high", "20Gi", "p-high"))
    tenant.wait("Pod", "high", lambda body: body["status"].get("nominatedNodeName") or body["spec"].get("nodeName"))
    tenant.create(pod("newcomer", "20Gi", "p-five"))
    tenant.wait("Pod", "high", pods.running)
    assert names_of(tenant) == {"half-1", "half-2", "ten", "high", "newcomer"}
    refused(tenant, "newcomer")
    nothing_is_over_committed(product)


@pytest.mark.parametrize("priority", ["p-ten", "p-never"])
def test_an_equal_one_and_one_that_must_not_preempt_wait(product: Product, tenant: Api, priority: str) -> None:
    held = {f"ten-{i}" for i in range(3)}
    run(tenant, *(pod(name, "20Gi", "p-ten") for name in sorted(held)))
    tenant.create(pod("asks", "20Gi", priority))
    refused(tenant, "asks")
    tenant.create(pod("marker", "20Gi", "p-higher"))  # decided on after the other
    tenant.wait("Pod", "marker", pods.running)
    found = names_of(tenant)
    assert len(found & held) == 2 and "asks" in found
    assert not tenant.get("Pod", "asks")["spec"].get("nodeName")


def test_a_pod_under_a_budget_is_spared_where_another_choice_exists(product: Product, tenant: Api) -> None:
    covered = [pod(f"web-{i}", "20Gi", "p-five") for i in range(2)]
    for body in covered:
        body["metadata"]["labels"] = {"app": "web"}
    run(tenant, *covered, pod("job", "20Gi", "p-ten"))
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
              "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    tenant.create(budget)
    tenant.wait("PodDisruptionBudget", "web", lambda found: found.get("status", {}).get("currentHealthy") == 2,
                version="policy/v1")  # fmt: skip
    tenant.create(pod("high", "20Gi", "p-high"))
    tenant.wait("Pod", "high", pods.running)
    assert names_of(tenant) == {"web-0", "web-1", "high"}


def test_three_at_once_take_three_places_and_no_more(product: Product, tenant: Api) -> None:
    run(tenant, *(pod(f"low-{i}", "20Gi", "p-five") for i in range(3)))
    pods.create_all(tenant, [pod(f"high-{i}", "20Gi", "p-high") for i in range(4)])
    high = lambda: [p for p in tenant.items("Pod") if p["metadata"]["name"].startswith("high-")]  # noqa: E731
    wait_until("three of four run", lambda: sum(map(pods.running, high())) == 3, timeout_s=60)
    assert names_of(tenant) == {f"high-{i}" for i in range(4)}
    assert sum(map(pods.running, high())) == 3
    nothing_is_over_committed(product)


def test_a_scheduler_that_dies_in_the_middle_costs_no_second_victim(product: Product, tenant: Api) -> None:
    slow = {"terminationGracePeriodSeconds": 12, "restartPolicy": "Never"}
    stubborn = pods.container(limits={"gpu-mem": "20Gi"}, command=["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"])
    for index in range(3):
        body = pod(f"low-{index}", "20Gi", "p-five", **slow)
        body["spec"]["containers"] = [stubborn]
        run(tenant, body)
    tenant.create(pod("high", "20Gi", "p-high"))
    leaving = lambda: [p for p in tenant.items("Pod") if "deletionTimestamp" in p["metadata"]]  # noqa: E731
    wait_until("a victim", leaving)
    scheduler = product.processes["scheduler"]
    scheduler.kill9()
    scheduler.start()
    scheduler.wait_ready()
    tenant.wait("Pod", "high", pods.running, timeout_s=90)
    assert len(names_of(tenant) & {"low-0", "low-1", "low-2"}) == 2
    wait_until("nobody leaves any more", lambda: not leaving())
    assert len(names_of(tenant) & {"low-0", "low-1", "low-2"}) == 2
    nothing_is_over_committed(product)
