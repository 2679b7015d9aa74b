"""A pod whose slice is on another node, through the real kube-scheduler: the pair, the lease, the executor, the end.

The client's node is an object without a kubelet, and the test does what the pool's controller does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tessera.model import names
from tessera.model.assignment import Share, decode
from tessera.model.quantities import GIB
from tests.e2e import programs
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.chart import NAMESPACE
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_sees_its_own, given
from tests.e2e.test_waiting import unschedulable

pytestmark = pytest.mark.e2e
LEASES = "tessera.io/v1alpha1"
THE_H100 = {"tessera.io/gpu-model": "NVIDIA H100 80GB HBM3"}
ACCOUNT, CONTROLLER = "tessera-pool-executor", "tessera-pool-controller"


@pytest.fixture(scope="module")
def pool() -> Iterator[Product]:
    try:
        cluster = Cluster().start()
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    try:
        found = Product(cluster, values=["pool.enabled=true"]).start()
        _client_node(cluster.api)
        _accounts(cluster.api)
        yield found
    finally:
        cluster.stop()


def _client_node(api: Api) -> None:
    labels = {"kubernetes.io/hostname": "client"}
    api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "client", "labels": labels}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "20", names.SLICE: "4"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2030-01-01T00:00:00Z"}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    api.patch("Node", "client", {"status": status}, sub="status")
    api.create({"apiVersion": LEASES, "kind": "GPUNode", "metadata": {"name": "client"}})
    api.patch("GPUNode", "client", {"status": {"clientSlots": 4}}, version=LEASES, sub="status")


def _accounts(api: Api) -> None:
    for name in (ACCOUNT, CONTROLLER):
        if api.find("ServiceAccount", name, NAMESPACE) is None:
            metadata = {"name": name, "namespace": NAMESPACE}
            api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    rbac = "rbac.authorization.k8s.io"
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": "edit"}
    subject = {"kind": "ServiceAccount", "name": CONTROLLER, "namespace": NAMESPACE}
    api.create({"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "controller-edits"},
                "roleRef": role, "subjects": [subject]})  # fmt: skip


def client(name: str, mem: str) -> Json:
    anywhere = {"tolerations": [{"operator": "Exists"}]}
    notes = {**THE_H100, names.REMOTE: "required"}
    return pods.pod(name, pods.container(limits={"gpu-mem": mem}), annotations=notes, **anywhere)


def executor(lease: Json) -> Json:
    share, meta = lease["spec"]["slice"], lease["metadata"]
    container = pods.container("executor", limits={names.GPU_MEM: str(share["memoryBytes"]), names.SLICE: "1"})
    return pods.pod(
        f"x-{meta['uid']}-1", container, namespace=NAMESPACE, scheduler="tessera", serviceAccountName=ACCOUNT,
        annotations={names.LEASE: f"{meta['namespace']}/{meta['name']}"}, labels={names.LEASE_UID: meta["uid"]},
    )  # fmt: skip


def test_a_slice_elsewhere_from_the_request_to_its_end(pool: Product) -> None:
    api = pool.cluster.api
    api.create(client("far", "60Gi"))
    bound = api.wait("Pod", "far", lambda pod: pod["spec"].get("nodeName"))
    assert bound["spec"]["nodeName"] == "client"
    assert any(volume["name"] == "tessera-pool-token" for volume in bound["spec"]["volumes"])
    (lease,) = api.items("GPULease", version=LEASES)
    assert decode(bound["metadata"]["annotations"][names.ASSIGNMENT]).leases == (("main", lease["metadata"]["name"]),)
    kept = lease["spec"]["slice"]
    assert (kept["node"], kept["memoryBytes"]) == ("node-a", 60 * GIB)

    api.create(pods.pod("near", pods.container(limits={"gpu-mem": "40Gi"}), annotations=THE_H100))
    assert "not enough memory" in unschedulable(api.wait("Pod", "near", unschedulable))

    wanted = executor(lease)
    controller = pool.cluster.as_user(api.service_account_token(CONTROLLER, NAMESPACE))
    wait_until("the controller's rights", lambda: controller.items("Pod", NAMESPACE) is not None)
    controller.create(wanted)
    mine = pool.cluster.as_user(pool.cluster.admin, NAMESPACE)
    serving = mine.wait("Pod", wanted["metadata"]["name"], pods.running)
    assert serving["spec"]["nodeName"] == "node-a"
    assert given(serving, "executor") == (Share(kept["gpuUUID"], 60 * GIB),)
    assert_sees_its_own(mine, serving, "executor")
    assert "not enough memory" in unschedulable(api.get("Pod", "near"))

    controller.delete("Pod", serving["metadata"]["name"], NAMESPACE, "v1")
    mine.wait_gone("Pod", serving["metadata"]["name"])
    assert not api.get("Pod", "near")["spec"].get("nodeName"), "the room is the lease's again"
    api.delete("Pod", "far", grace_s=0)
    going = api.wait(
        "GPULease", lease["metadata"]["name"], lambda one: "deletionTimestamp" in one["metadata"], version=LEASES
    )
    assert going["metadata"]["finalizers"] == [names.LEASE_FINALIZER]
    assert not api.get("Pod", "near")["spec"].get("nodeName")
    api.patch("GPULease", lease["metadata"]["name"], {"metadata": {"finalizers": []}}, version=LEASES)
    assert_sees_its_own(api, api.wait("Pod", "near", pods.running))
    api.delete("Pod", "near")
