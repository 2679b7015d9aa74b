"""The second slice of a lease that moves: what it is charged, and who is given it."""

from dataclasses import replace

import msgspec
import pytest

from tessera.kube import wire
from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.hosts import Host, HostNeed
from tessera.model.quantities import GIB
from tessera.reasons import Code
from tessera.scheduler.engine import Engine
from tessera.scheduler.watching import brief_pod_of
from tests.unit.scheduler.clusters import bind_away, client, executor, node, place, pooled, remote

ALL = ["c", "g", "h"]
TARGET = Slice("h", Share("GPU-h-0", 16 * GIB, 0))


def free(cluster: Engine) -> dict[str, int]:
    """GiB by node."""
    ledger = cluster.ledger
    return {name: int(ledger.free_bytes[ledger.rows()[name]].sum()) // GIB for name in ("g", "h")}


@pytest.fixture
def cluster() -> Engine:
    found = pooled(client("c"), node("g", 24), node("h", 24))
    found.replace_hosts([Host(name, 64_000, 64 * GIB, closed=name == "h") for name in ALL])
    return found


@pytest.fixture
def lease(cluster: Engine) -> GpuLease:
    [found] = bind_away(cluster, remote("p", "gpu-mem=8Gi"), ALL)
    place(cluster, executor(found), ALL)
    return found


def test_room_is_taken_before_it_is_written_and_stays_while_it_is(cluster: Engine, lease: GpuLease) -> None:
    assert cluster.leases.aim(lease, TARGET) is None
    assert free(cluster) == {"g": 16, "h": 8} and cluster.leases.target(lease) == TARGET
    assert cluster.ledger.occupants()[lease.target_hold] == ("h", HostNeed(500, GIB))
    cluster.leases.observe(lease)  # news of before
    assert free(cluster) == {"g": 16, "h": 8}
    cluster.leases.observe(replace(lease, target=TARGET))
    cluster.leases.miss(lease)  # the answer was lost, the write was not
    assert free(cluster) == {"g": 16, "h": 8}
    cluster.leases.observe(lease)
    assert free(cluster) == {"g": 16, "h": 24} and cluster.freed >= {"h"}
    assert lease.target_hold not in cluster.ledger.occupants()


@pytest.mark.parametrize("container", ["target", "c0"])
def test_both_rooms_are_known_for_the_leases_whatever_the_container_is_called(container: str) -> None:
    asked = remote("p", "gpu-mem=8Gi")
    asked = replace(asked, containers=(replace(asked.containers[0], name=container),))
    cluster = pooled(client("c"), node("g", 24), node("h", 24))
    [lease] = bind_away(cluster, asked, ALL)
    assert cluster.leases.aim(lease, TARGET) is None
    assert cluster.leases.behind(lease.hold) == lease == cluster.leases.behind(lease.target_hold)


def test_a_write_that_failed_gives_the_room_back(cluster: Engine, lease: GpuLease) -> None:
    cluster.leases.aim(lease, TARGET)
    cluster.leases.miss(lease)
    assert free(cluster) == {"g": 16, "h": 24} and cluster.leases.target(lease) is None


def test_what_does_not_fit_is_not_taken(cluster: Engine, lease: GpuLease) -> None:
    cluster.forget_node("h")
    cluster.observe_node(node("h", 12))
    reason = cluster.leases.aim(lease, TARGET)
    assert reason is not None and reason.code is Code.NOT_ENOUGH_MEMORY
    assert free(cluster) == {"g": 16, "h": 12} and cluster.leases.target(lease) is None


def test_two_sizes_on_one_gpu_need_room_at_once(cluster: Engine, lease: GpuLease) -> None:
    def larger(gib: int) -> Slice:
        return Slice("g", Share("GPU-g-0", gib * GIB))

    assert cluster.leases.aim(lease, larger(17)) is not None
    assert cluster.leases.aim(lease, larger(16)) is None
    assert free(cluster)["g"] == 0


def test_the_next_executor_has_the_target_and_nothing_else(cluster: Engine, lease: GpuLease) -> None:
    moving = replace(lease, target=TARGET)
    cluster.leases.observe(moving)
    following = executor(lease, epoch=2, target=TARGET)
    assert cluster.filter(following, ALL).nodes == ["h"]
    greedy = replace(executor(lease, epoch=3), annotations=following.annotations)
    reason = cluster.filter(greedy, ALL).reason
    assert reason is not None and "is for another pod" in reason.text
    assert place(cluster, following, ALL).shares == (TARGET.share,)
    assert free(cluster) == {"g": 16, "h": 8} and lease.target_hold not in cluster.ledger.charges()
    cluster.forget_pod(following.uid)
    assert free(cluster) == {"g": 16, "h": 8} and lease.target_hold in cluster.ledger.charges()


def test_once_moved_the_former_room_is_free_when_its_executor_is_gone(cluster: Engine, lease: GpuLease) -> None:
    cluster.leases.observe(replace(lease, target=TARGET))
    following = executor(lease, epoch=2, target=TARGET)
    place(cluster, following, ALL)
    cluster.leases.observe(replace(lease, node="h", share=TARGET.share))
    assert free(cluster) == {"g": 16, "h": 8}
    cluster.forget_pod(executor(lease).uid)
    assert free(cluster) == {"g": 24, "h": 8}
    cluster.forget_pod(following.uid)
    assert free(cluster) == {"g": 24, "h": 8}, "the lease keeps it"


def test_moved_at_once_where_nobody_serves(cluster: Engine, lease: GpuLease) -> None:
    cluster.forget_pod(executor(lease).uid)
    cluster.leases.observe(replace(lease, target=TARGET))
    assert free(cluster) == {"g": 16, "h": 8}
    cluster.freed.clear()
    cluster.leases.observe(replace(lease, node="h", share=TARGET.share))
    assert free(cluster) == {"g": 24, "h": 8} and cluster.freed >= {"g"}


def test_a_move_that_is_over_before_it_was_seen(cluster: Engine, lease: GpuLease) -> None:
    cluster.leases.aim(lease, TARGET)
    cluster.leases.replace([replace(lease, node="h", share=TARGET.share)])
    assert cluster.leases.target(lease) is None and lease.target_hold not in cluster.ledger.charges()


def test_both_rooms_go_with_the_lease(cluster: Engine, lease: GpuLease) -> None:
    cluster.leases.observe(replace(lease, target=TARGET))
    cluster.forget_pod(executor(lease).uid)
    cluster.leases.forget(lease)
    assert free(cluster) == {"g": 24, "h": 24} and not cluster.leases.load()


def test_without_a_target_nobody_is_given_one(cluster: Engine, lease: GpuLease) -> None:
    following = executor(lease, epoch=2, target=TARGET)
    reason = cluster.filter(following, ALL).reason
    assert reason is not None and reason.text == f"GPULease {lease.key} moves to no other slice"
    odd = replace(following, annotations={**following.annotations, names.LEASE_SLICE: "third"}, uid="odd")
    reason = cluster.filter(odd, ALL).reason
    assert reason is not None
    assert reason.text == "metadata.annotations[state.tessera.io/lease-slice]: found 'third'; allowed: target"


def test_a_target_is_a_part_of_its_nodes_load_and_of_a_copy(cluster: Engine, lease: GpuLease) -> None:
    cluster.leases.observe(replace(lease, target=TARGET))
    assert cluster.leases.load() == {"c": 1, "g": 1, "h": 1}
    other = cluster.leases.copy()
    other.observe(lease)
    assert other.load() == {"c": 1, "g": 1} and cluster.leases.load()["h"] == 1
    assert lease.target_hold in cluster.ledger.charges() and lease.target_hold not in other.ledger.charges()


def test_which_slice_an_executor_is_to_have_is_read_off_its_pod() -> None:
    annotations = {names.LEASE: "default/l", names.LEASE_SLICE: "target", "other": "kept by nobody"}
    limits = {names.GPU_MEM: "4Gi", names.SLICE: "1"}
    body = {"metadata": {"name": "x", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]}}  # fmt: skip
    read = brief_pod_of(msgspec.convert(body, wire.Pod))
    assert (read.lease, read.lease_slice) == ("default/l", "target") and "other" not in read.annotations
