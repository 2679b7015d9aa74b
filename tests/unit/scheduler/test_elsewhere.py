"""Pods whose slices are on other nodes: where they go, what they are charged, and what the room is when they leave."""

from dataclasses import replace

import pytest

from tessera.model import names
from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Totals, charge_of
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host, HostNeed
from tessera.model.quantities import GIB
from tessera.reasons import Code, Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import (
    bind_away,
    bound,
    client,
    engine,
    executor,
    made,
    node,
    place,
    pod,
    pooled,
    remote,
)

ALL = ["c", "d", "g", "h"]


def free_gib(cluster: Engine, name: str) -> int:
    row = cluster.ledger.row(name)
    return int(cluster.ledger.free_bytes[row].sum()) // GIB


def test_a_pod_goes_to_a_client_node_and_its_slice_to_a_gpu_node() -> None:
    cluster = pooled(client("c"), node("g", 24))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=4Gi gpu-core=30"), ALL)
    assert (lease.client.node, lease.node, lease.share) == ("c", "g", Share("GPU-g-0", 4 * GIB, 30))
    charge = cluster.ledger.charge_of("uid-p")
    assert charge is not None and charge.totals == Totals(slots=1)
    assert charge.assignment == Assignment((), "", (("c0", lease.name),))
    assert free_gib(cluster, "g") == 20


def test_a_share_that_holds_no_context_is_leased_of_a_larger_gpu_or_of_none() -> None:
    options = Options(context_bytes=GIB)
    small = pooled(client("c"), node("g", 24), options=options)
    answer = small.filter(remote("p", "gpu-core=4"), ALL)
    assert not answer.nodes and answer.reason is not None and "which a program's context takes" in answer.reason.text
    both = pooled(client("c"), node("g", 24), node("h", 80), options=options)
    [lease] = bind_away(both, remote("p", "gpu-core=4"), ALL)
    assert lease.node == "h" and lease.share.mem_bytes >= GIB


def test_what_is_read_of_a_bound_client_is_its_slots_alone() -> None:
    seen = bound(remote("p", "gpu-mem=4Gi", "gpu-core=10"), "c", Assignment((), "", (("c0", "l0"), ("c1", "l1"))))
    charge = charge_of(seen)
    assert charge is not None and charge.totals == Totals(slots=2)


def test_never_is_never_and_required_is_never_local() -> None:
    cluster = pooled(client("c"), node("g", 24))
    assert cluster.filter(pod("local", "gpu-mem=4Gi"), ALL).nodes == ["g"]
    assert cluster.filter(remote("away", "gpu-mem=4Gi"), ALL).nodes == ["c"]
    reserved = cluster.reserve("uid-away", "g")
    assert isinstance(reserved, Reason) and reserved.code is Code.REMOTE_UNAVAILABLE


def test_a_pod_that_may_be_remote_stays_local_while_it_can() -> None:
    cluster = pooled(client("c"), node("g", 8), node("h", 24))
    asked = remote("p", "gpu-mem=16Gi", may="allowed")
    assert cluster.filter(asked, ALL).nodes == ["h"]
    assert cluster.filter(asked, ["c", "g"]).nodes == ["c"]
    assert place(cluster, asked, ["c", "h"]).shares


def test_several_gpus_and_whole_ones_are_local_only() -> None:
    cluster = pooled(client("c"), node("g", 24, 24))
    two = remote("two", "gpu-mem=8Gi gpu-count=2", may="allowed")
    assert cluster.filter(two, ["c"]).nodes == []
    assert isinstance(cluster.reserve(two.uid, "c"), Reason) and not cluster.keep_room(two, "c")
    assert cluster.filter(two, ALL).nodes == ["g"]
    for ask, key, found in (("gpu-mem=8Gi gpu-count=2", names.GPU_COUNT, "2"), ("gpu=1", names.GPU, "1")):
        reason = cluster.filter(remote(f"r{found}", ask), ALL).reason
        assert reason is not None and reason.code is Code.INVALID_REQUEST
        assert reason.text == (
            f"spec.containers[0].resources.limits[{key}]: found '{found}'; allowed: "
            "with tessera.io/remote: required a slice of one GPU for each container"
        )


def test_each_container_has_a_lease_and_they_need_not_lie_together() -> None:
    cluster = pooled(client("c"), node("g", 8), node("h", 8))
    leases = bind_away(cluster, remote("p", "gpu-mem=6Gi", "gpu-mem=5Gi"), ALL)
    assert {lease.client.container: lease.node for lease in leases}.keys() == {"c0", "c1"}
    assert {lease.node for lease in leases} == {"g", "h"}
    assert cluster.filter(remote("more", "gpu-mem=2Gi", "gpu-mem=4Gi"), ALL).nodes == []
    assert cluster.ledger.over_committed() == []


def hosted(
    name: str, zone: str = "", rack: str = "", *, cpu: int = 64_000, closed: bool = False, gbps: int = 0
) -> Host:
    return Host(name, cpu, 64 * GIB, zone, rack, closed, gbps=gbps)


@pytest.mark.parametrize(("rack", "zone"), [("r1", "z1"), ("", "z1")])
def test_the_pair_is_near(rack: str, zone: str) -> None:
    """Two clients and two GPU nodes that are equal but for where they are: only one pair is near."""
    cluster = pooled(client("c"), client("d"), node("g", 24), node("h", 24))
    near, far = (zone, rack), ("z9", "r9")
    cluster.replace_hosts([hosted("c", "z5", "r5"), hosted("d", *near), hosted("g", *far), hosted("h", *near)])
    [lease] = bind_away(cluster, remote("p", "gpu-mem=4Gi"), ALL)
    assert (lease.client.node, lease.node) == ("d", "h")


def test_of_equal_nodes_the_one_with_fewest_leases_is_taken() -> None:
    cluster = pooled(client("c"), client("d"), node("g", 24), node("h", 24), options=Options("spread"))
    leases = [bind_away(cluster, remote(f"p{index}", "gpu-mem=1Gi"), ALL)[0] for index in range(4)]
    assert sorted(lease.client.node for lease in leases) == ["c", "c", "d", "d"]
    assert sorted(lease.node for lease in leases) == ["g", "g", "h", "h"]


@pytest.mark.parametrize(("c", "d", "clients"), [(0, 0, "ccdd"), (25, 75, "cddd"), (0, 30, "cddd"), (100, 10, "cccc")])
@pytest.mark.parametrize(("g", "h", "first"), [(10, 25, "h"), (100, 25, "g"), (0, 25, "h"), (0, 1, "g")])
def test_of_equal_nodes_the_one_whose_network_is_least_promised_is_taken(
    c: int, d: int, clients: str, g: int, h: int, first: str
) -> None:
    """A network of which nobody says how fast it is counts as one of 10 Gbit/s."""
    cluster = pooled(client("c"), client("d"), node("g", 24), node("h", 24), options=Options("spread"))
    cluster.replace_hosts([hosted(name, gbps=gbps) for name, gbps in zip("cdgh", (c, d, g, h), strict=True)])
    leases = [bind_away(cluster, remote(f"p{index}", "gpu-mem=1Gi"), ALL)[0] for index in range(4)]
    assert sorted(lease.client.node for lease in leases if lease.client) == list(clients)
    assert leases[0].node == first


def test_the_gpus_node_must_take_the_executor_too() -> None:
    cluster = pooled(client("c"), node("g", 24), node("h", 24))
    cluster.replace_hosts([hosted("g", cpu=400), hosted("h", closed=True)])
    reason = cluster.filter(remote("p", "gpu-mem=4Gi"), ALL).reason
    assert reason is not None and reason.code is Code.REMOTE_UNAVAILABLE
    assert "1 on nodes with too little left for the whole pod" in reason.text
    cluster.observe_host(hosted("h"))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=4Gi"), ALL)
    assert lease.node == "h"
    assert cluster.ledger.occupants()[lease.hold] == ("h", HostNeed(500, GIB))


def test_a_client_nodes_slots_are_counted() -> None:
    cluster = pooled(client("c", 1), node("g", 24))
    bind_away(cluster, remote("p", "gpu-mem=4Gi"), ALL)
    reason = cluster.filter(remote("q", "gpu-mem=4Gi"), ALL).reason
    assert reason is not None and reason.text.endswith("has a slot free")


def test_without_a_pool_nothing_is_remote() -> None:
    cluster = engine(client("c"), node("g", 24))
    reason = cluster.filter(remote("p", "gpu-mem=4Gi"), ALL).reason
    assert reason is not None and reason.code is Code.REMOTE_UNAVAILABLE
    assert cluster.filter(remote("q", "gpu-mem=40Gi", may="allowed"), ALL).nodes == []
    assert cluster.filter(remote("r", "gpu-mem=4Gi", may="allowed"), ALL).nodes == ["g"]


def test_an_executor_is_given_exactly_the_leases_share_and_only_there() -> None:
    cluster = pooled(client("c"), node("g", 24), node("h", 24))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=24Gi"), ALL)
    serving = executor(lease)
    other = "h" if lease.node == "g" else "g"
    assert cluster.filter(serving, ALL).nodes == [lease.node]
    excluded = cluster.filter(serving, [other]).reason
    assert excluded is not None and "is excluded by other rules of the cluster" in excluded.text
    given = place(cluster, serving, ALL)
    assert given.shares == (lease.share,)
    assert free_gib(cluster, lease.node) == 0 and free_gib(cluster, other) == 24
    assert cluster.ledger.charge_of(lease.hold) is None and lease.hold not in cluster.ledger.occupants()
    cluster.forget_pod(serving.uid)
    assert cluster.ledger.charge_of(lease.hold) is not None and free_gib(cluster, lease.node) == 0
    cluster.leases.forget(lease)
    assert free_gib(cluster, lease.node) == 24


def test_nobody_else_takes_what_a_lease_keeps() -> None:
    cluster = pooled(client("c"), node("g", 24))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=20Gi"), ALL)
    serving = executor(lease)
    forged = {
        "another namespace": replace(serving, namespace="default", uid="1"),
        "another account": replace(serving, account="default", uid="2"),
        "another lease": replace(serving, labels={names.LEASE_UID: "none"}, uid="3"),
        "no lease": replace(serving, annotations={}, uid="4"),
    }
    for what, each in forged.items():
        assert cluster.filter(each, ALL).nodes == [], what
    larger = pod("x", "gpu-mem=21Gi")
    greedy = replace(serving, uid="5", containers=larger.containers)
    reason = cluster.filter(greedy, ALL).reason
    assert reason is not None and "is for another pod" in reason.text


def test_a_second_executor_needs_room_beside_the_first() -> None:
    cluster = pooled(client("c"), node("g", 24))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=16Gi"), ALL)
    place(cluster, executor(lease), ALL)
    second = executor(lease, epoch=2)
    assert cluster.filter(second, ALL).nodes == []
    cluster.forget_pod(executor(lease).uid)
    assert place(cluster, second, ALL).shares == (lease.share,)
    assert cluster.ledger.over_committed() == []


def test_a_hold_of_a_client_ends_with_all_its_room() -> None:
    cluster = pooled(client("c"), node("g", 24))
    assert cluster.filter(remote("p", "gpu-mem=20Gi"), ALL).nodes == ["c"]
    assert free_gib(cluster, "g") == 4
    cluster.forget_pod("uid-p")
    assert free_gib(cluster, "g") == 24 and not cluster.ledger.charges() and not cluster.ledger.occupants()
    assert {"c", "g"} <= cluster.freed


def test_a_lease_left_from_an_earlier_try_is_waited_for() -> None:
    cluster = pooled(client("c"), node("g", 24))
    asked = remote("p", "gpu-mem=4Gi")
    cluster.filter(asked, ALL)
    cluster.reserve(asked.uid, "c")
    [left] = [made(lease) for lease in cluster.leases.promised(asked.uid)]
    cluster.leases.observe(left)
    cluster.undo(asked.uid)
    assert free_gib(cluster, "g") == 20
    reason = cluster.filter(asked, ALL).reason
    assert reason is not None and left.key in reason.text
    cluster.leases.forget(left)
    assert cluster.filter(asked, ALL).nodes == ["c"]


def test_the_order_of_leases_and_pods_does_not_matter() -> None:
    nodes: tuple[GpuNode, ...] = (client("c"), node("g", 24, 24))
    first = pooled(*nodes)
    asked = remote("p", "gpu-mem=4Gi")
    [lease] = bind_away(first, asked, ALL)
    given = place(first, executor(lease), ALL)
    pods = [bound(asked, "c", Assignment((), "", (("c0", lease.name),))), bound(executor(lease), "g", given)]
    for leases_first in (True, False):
        second = pooled(*nodes)
        if leases_first:
            second.leases.replace([lease])
        second.replace_pods(pods)
        second.leases.replace([lease])
        assert dict(second.ledger.charges()) == dict(first.ledger.charges())
        assert dict(second.ledger.occupants()) == dict(first.ledger.occupants())


def test_trust_domains_hold_for_slices_elsewhere() -> None:
    cluster = pooled(client("c"), node("g", 24), options=Options(trust_domain="namespace"))
    [lease] = bind_away(cluster, remote("p", "gpu-mem=4Gi"), ALL)
    assert lease.domain == "namespace/default"
    stranger = replace(remote("q", "gpu-mem=4Gi"), namespace="other")
    assert cluster.filter(stranger, ALL).nodes == []
    given = place(cluster, executor(lease), ALL)
    assert given.domain == "namespace/default"
    assert cluster.filter(stranger, ALL).nodes == []
    assert cluster.filter(remote("r", "gpu-mem=4Gi"), ALL).nodes == ["c"]
