"""`kill -9` of each part in the middle of 100 creations: nothing lost, nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import Process, wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import all_given, assert_sees_its_own, bytes_by_gpu

pytestmark = pytest.mark.e2e

REPLICAS = 100


def victim(product: Product, name: str) -> Process:
    node = product.cluster.nodes["node-a"]
    return {
        "extender": product.processes["scheduler"],
        "plugin": product.processes["plugin-node-a"],
        "agent": product.processes["agent-node-a"],
        "kubelet": node.kubelet,
        "containerd": node.containerd,
        "kube-apiserver": product.cluster.apiserver,
    }[name]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["extender", "plugin", "agent", "kubelet", "containerd", "kube-apiserver"])
def test_killed_in_the_middle_of_a_hundred_creations(product: Product, tenant: Api, name: str) -> None:
    process = victim(product, name)
    container = pods.container(limits={"gpu-mem": "300Mi", "gpu-core": 1})
    tenant.create(pods.deployment("many", REPLICAS, pods.pod("many", container)))
    wait_until("the middle", lambda: sum(map(pods.running, tenant.items("Pod"))) >= REPLICAS / 4, 120, every_s=0.05)
    process.kill9()
    time.sleep(1)  # the outage itself, not a wait for anything
    process.start().wait_ready()
    wait_until("100 Running", _survived(tenant, lambda: tenant.items("Pod")), 240, every_s=0.5)
    found = tenant.items("Pod")
    _every_pod_is_accounted_for(found, name)
    _nobody_is_over_committed(product, found)
    for pod in [pod for pod in found if pods.running(pod)][::10]:
        assert_sees_its_own(tenant, pod)
    wait_until("the ledgers to agree", lambda: _ledgers_agree(product), 60)


def _survived(api: Api, items: Callable[[], list[Json]]) -> Callable[[], bool]:
    return lambda: sum(map(pods.running, items())) == REPLICAS


def _every_pod_is_accounted_for(found: list[Json], killed: str) -> None:
    """Running; or, where the kubelet or its plugin was away, Failed by the kubelet and replaced by the controller."""
    refused = [pod for pod in found if not pods.running(pod)]
    reasons = {(pod["status"]["phase"], pod["status"].get("reason")) for pod in refused}
    print(f"{killed}: {len(refused)} pods refused by the kubelet and replaced {reasons}")
    assert reasons <= {("Failed", "UnexpectedAdmissionError")}
    assert not refused or killed in ("kubelet", "plugin")


def _nobody_is_over_committed(product: Product, found: list[Json]) -> None:
    room = {g["uuid"]: int(g["memoryBytes"]) for n in product.gpu_nodes().values() for g in n["status"]["gpus"]}
    assert all(held <= room[uuid] for uuid, held in bytes_by_gpu(found).items())
    percent: dict[str, int] = dict.fromkeys(room, 0)
    for share in all_given(found):
        percent[share.uuid] += share.core_percent
    assert max(percent.values()) <= 100


def _ledgers_agree(product: Product) -> bool:
    """The API's assignments, the scheduler's ledger and each node's own record name the same bytes."""
    everywhere = product.cluster.api.items("Pod", everywhere=True)
    by_gpu = bytes_by_gpu(everywhere)
    nodes = {
        gpu["uuid"]: int(gpu.get("allocatedBytes", 0))
        for node in product.gpu_nodes().values()
        for gpu in node["status"]["gpus"]
    }
    assert {u: b for u, b in nodes.items() if b} == dict(by_gpu), "nodes and API differ"
    assert product.ledger_bytes() == sum(by_gpu.values()), "ledger and API differ"
    return True
