"""A container that takes more than its slice is told, then ended; its neighbours are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessera.model.quantities import GIB
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import given

pytestmark = pytest.mark.e2e


def processes_of(pod: Json) -> list[int]:
    """Host PIDs of the pod's only container, oldest first."""
    container_id = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if container_id in (entry / "cgroup").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def test_a_container_over_its_limit_is_ended_with_an_event_and_its_neighbour_is_not(
    product: Product, tenant: Api
) -> None:
    for name in ("greedy", "modest"):
        tenant.create(pods.pod(name, pods.container(limits={"gpu-mem": "4Gi"}), node="node-a"))
    found = pods.wait_all(tenant, ["greedy", "modest"])
    machine = product.machines["node-a"]
    greedy, modest = (processes_of(found[name])[0] for name in ("greedy", "modest"))
    machine.use(modest, given(found["modest"])[0].uuid, 4 * GIB)
    machine.use(greedy, given(found["greedy"])[0].uuid, 5 * GIB)
    try:
        wait_until("the greedy process to be ended", lambda: not Path(f"/proc/{greedy}").exists(), 20)
        wait_until("the event", lambda: [e for e in tenant.events("greedy") if e["reason"] == "SliceOverLimit"])
        assert Path(f"/proc/{modest}").exists()
        assert not [e for e in tenant.events("modest") if e["reason"] == "SliceOverLimit"]
    finally:
        machine.forget(greedy)
        machine.forget(modest)
