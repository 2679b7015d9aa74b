"""A fragmented cluster is put in order for a waiting pod, as far as disruption budgets allow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.model.quantities import GIB
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_sees_its_own, given
from tests.e2e.test_waiting import unschedulable

pytestmark = pytest.mark.e2e
PLUGIN = str(Path(sys.executable).parent / "kubectl-tessera")


def plugin(product: Product, tenant: Api, *argv: str) -> subprocess.CompletedProcess[str]:
    """`kubectl tessera` as the administrator in the test's namespace."""
    where = ["--kubeconfig", str(product.cluster.kubeconfig)]
    if argv[0] == "defragment":
        where += ["-n", tenant.namespace]
    return subprocess.run([PLUGIN, *argv, *where], capture_output=True, text=True, timeout=170, check=False)


def cordon(product: Product, node: str, closed: bool) -> None:
    product.cluster.api.patch("Node", node, {"spec": {"unschedulable": closed}})


def of(tenant: Api, app: str) -> list[Json]:
    found = [pod for pod in tenant.items("Pod") if pod["metadata"].get("labels", {}).get("app") == app]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and pods.running(pod)]


@pytest.fixture
def fragmented(product: Product, tenant: Api) -> Iterator[Api]:
    """30Gi of node-a's only GPU of 80 GB are taken, while node-b has a GPU of 40 GB free; a pod of 70Gi waits."""
    cordon(product, "node-b", True)
    try:
        template = pods.pod("small", pods.container(limits={"gpu-mem": "30Gi"}))
        tenant.create(pods.deployment("small", 1, template))
        wait_until("the small pod to run", lambda: of(tenant, "small"))
    finally:
        cordon(product, "node-b", False)
    tenant.create(pods.pod("large", pods.container(limits={"gpu-mem": "70Gi"})))
    tenant.wait("Pod", "large", unschedulable)
    yield tenant
    tenant.delete("Deployment", "small", version="apps/v1")


def test_one_move_lets_the_waiting_pod_in(product: Product, fragmented: Api) -> None:
    shown = plugin(product, fragmented, "defragment", "large", "-o", "json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    plan = json.loads(shown.stdout)
    assert [(move["source"], move["target"]) for move in plan["moves"]] == [("node-a", "node-b")]
    assert [pod["spec"]["nodeName"] for pod in of(fragmented, "small")] == ["node-a"]

    done = plugin(product, fragmented, "defragment", "large", "--execute", "--timeout", "120", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["end"] == "bound"
    large = fragmented.wait("Pod", "large", pods.running)
    assert given(large)[0].mem_bytes == 70 * GIB and given(large)[0].uuid == plan["gpus"][0]
    assert_sees_its_own(fragmented, large)
    wait_until("the moved pod to run", lambda: of(fragmented, "small"))
    assert [pod["spec"]["nodeName"] for pod in of(fragmented, "small")] == ["node-b"]


def test_a_budget_that_allows_none_stops_the_move(product: Product, fragmented: Api) -> None:
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep-small"},
              "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "small"}}}}  # fmt: skip
    fragmented.create(budget)
    fragmented.wait("PodDisruptionBudget", "keep-small", lambda b: b.get("status", {}).get("currentHealthy") == 1,
                    version="policy/v1")  # fmt: skip
    before = of(fragmented, "small")[0]["metadata"]["uid"]
    done = plugin(product, fragmented, "defragment", "large", "--execute", "--timeout", "8")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "The disruption budget keep-small needs 1 healthy pods and has 1 currently" in done.stdout
    assert "nothing was moved" in done.stdout
    assert of(fragmented, "small")[0]["metadata"]["uid"] == before


def test_a_drain_plan_of_a_real_node(product: Product, fragmented: Api) -> None:
    shown = plugin(product, fragmented, "drain-plan", "node/node-a", "-o", "json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    moves = json.loads(shown.stdout)["moves"]
    assert [(move["namespace"], move["target"]) for move in moves] == [(fragmented.namespace, "node-b")]
