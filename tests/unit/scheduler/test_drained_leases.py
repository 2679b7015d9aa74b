"""A drain plan says of each lease where its slice would go, as the scheduler would aim it once the place is closed."""

from dataclasses import replace

import pytest

from tessera.model.assignment import Share
from tessera.model.demands import demand_of
from tessera.model.gpu_leases import Client, GpuLease, Phase, Size, Slice
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.scheduler.drain import DrainPlan, Move, drain_plan
from tessera.scheduler.options import Options
from tessera.scheduler.relocation import Aim, Sight
from tests.unit.scheduler.clusters import bind_away, client, executor, node, place, pod, pooled, remote
from tests.unit.scheduler.populations import owned, people, put

FIXED = "holds a slice for a pod on another node"


class Case:
    """Leases of ``g``, whose pods run on ``c``; ``h`` and other nodes are open only afterwards."""

    def __init__(self, *nodes: GpuNode, options: Options | None = None) -> None:
        self.engine = pooled(client("c"), *nodes, options=options)
        self.others = [each.name for each in nodes if each.name != "g"]
        self.clients: list[Pod] = []
        self.executors: list[Pod] = []
        self._hosts(closed=True)

    def lease(self, name: str, mem: str, served: bool = False) -> GpuLease:
        self._hosts(closed=True)
        asked = remote(name, f"gpu-mem={mem}")
        [lease] = bind_away(self.engine, asked, ["c"])
        assert lease.node == "g"
        if served:
            serving = executor(lease)
            place(self.engine, serving, ["g"])
            self.executors.append(serving)
        self.clients.append(asked)
        self._hosts(closed=False)
        return lease

    def has(self, lease: GpuLease, **changed: object) -> GpuLease:
        found: GpuLease = replace(lease, **changed)  # type: ignore[arg-type]
        self.engine.leases.observe(found)
        return found

    def plan(self, where: str = "g", *pods: Pod) -> DrainPlan:
        crowd = people(*self.clients, *pods, *(owned(each, fixed=FIXED) for each in self.executors))
        found = drain_plan(self.engine, crowd, where)
        assert isinstance(found, DrainPlan)
        return found

    def cordon(self) -> None:
        self.engine.observe_host(Host("g", 64_000, 64 * GIB, closed=True, cordoned=True))

    def _hosts(self, closed: bool) -> None:
        for name in ("c", "g"):
            self.engine.observe_host(Host(name, 64_000, 64 * GIB))
        for name in self.others:
            self.engine.observe_host(Host(name, 64_000, 64 * GIB, closed=closed))


def ways(found: DrainPlan) -> dict[str, tuple[str, tuple[str, ...]] | str]:
    return {move.name: move.reason or (move.target, move.gpus) for move in found.moves}


@pytest.mark.parametrize("served", [True, False])
def test_it_goes_alone_served_or_not(served: bool) -> None:
    case = Case(node("g", 24), node("h", 24))
    lease = case.lease("far", "6Gi", served=served)
    found = case.plan()
    assert found.complete
    assert found.moves == (
        Move("default", "far", "uid-far", "g", 6 * GIB, "h", ("GPU-h-0",), lease=lease.name),
    ), "neither the executor nor the pod moves"  # fmt: skip


def test_the_plan_is_what_the_scheduler_then_aims_at() -> None:
    case = Case(node("g", 24), node("h", 24, 8), node("i", 16), options=Options("pack"))
    leases = [case.lease(name, mem) for name, mem in (("one", "6Gi"), ("two", "10Gi"), ("three", "8Gi"))]
    before = dict(case.engine.ledger.charges())
    planned = ways(case.plan())
    assert dict(case.engine.ledger.charges()) == before, "nothing of the question reaches the engine"
    case.cordon()
    relocations = case.engine.relocations
    assert relocations is not None
    for lease in sorted(leases, key=lambda each: -each.share.mem_bytes):
        asked = next(each for each in case.clients if each.uid == lease.client.pod_uid)
        decided = relocations.decide(Sight(lease, live=True), demand_of(asked), "")
        assert isinstance(decided, Aim)
        assert planned[asked.name] == (decided.where.node, (decided.where.share.uuid,))
        assert case.engine.leases.aim(lease, decided.where) is None


def test_one_that_finds_no_room_says_why_and_the_plan_is_not_complete() -> None:
    case = Case(node("g", 24), node("h", 12))
    for name in ("one", "two"):
        case.lease(name, "8Gi", served=name == "one")
    found = case.plan()
    assert not found.complete
    [stays] = [move for move in found.moves if move.reason]
    assert stays.reason.startswith("fits nowhere else: ") and "not enough memory" in stays.reason
    assert "cordoned" not in stays.reason and (stays.target, stays.gpus) == ("", ())


def test_slices_go_before_the_pods_of_the_node() -> None:
    case = Case(node("g", 24), node("h", 12))
    case.lease("far", "6Gi")
    here = put(case.engine, pod("here", "gpu-mem=8Gi"), "g")
    found = ways(case.plan("g", here))
    assert found["far"] == ("h", ("GPU-h-0",)) and "fits nowhere else" in found["here"]


def test_a_gpus_slice_goes_to_its_neighbour_or_says_why_not_though_the_gpu_is_well() -> None:
    case = Case(node("g", 24, 24), options=Options("pack"))
    lease = case.lease("far", "6Gi", served=True)
    other = {"GPU-g-0", "GPU-g-1"} - {lease.share.uuid}
    assert ways(case.plan(lease.share.uuid)) == {"far": ("g", tuple(other))}
    put(case.engine, pod("full", "gpu-mem=20Gi"), "g")
    found = ways(case.plan(lease.share.uuid))["far"]
    assert isinstance(found, str) and found.startswith("fits nowhere else: ") and "is unhealthy" not in found


def test_one_that_has_a_target_goes_there_unless_that_is_of_the_place_too() -> None:
    case = Case(node("g", 24), node("h", 24), node("i", 24))
    lease = case.lease("far", "6Gi")
    case.has(lease, target=Slice("i", Share("GPU-i-0", 6 * GIB)))
    assert ways(case.plan()) == {"far": ("i", ("GPU-i-0",))}
    beside = case.has(lease, target=Slice("g", Share("GPU-g-0", 8 * GIB)), wanted=Size(8 * GIB, 0))
    found = case.plan()
    assert found.complete and [(move.target, move.mem_bytes) for move in found.moves] == [("h", 8 * GIB)]
    case.has(beside, phase=Phase.MIGRATING)
    assert "moves on once it has arrived" in ways(case.plan())["far"]


def test_one_that_was_to_come_stays_where_it_is_if_it_may() -> None:
    case = Case(node("g", 24), node("h", 24))
    lease = case.lease("far", "6Gi")
    case.has(lease, target=Slice("h", Share("GPU-h-0", 6 * GIB)))
    assert ways(case.plan("h")) == {"far": ("g", ("GPU-g-0",))}
    case.cordon()
    assert "fits nowhere else" in ways(case.plan("h"))["far"]


def test_one_whose_pod_is_gone_goes_with_its_lease() -> None:
    case = Case(node("g", 24), node("h", 24))
    lease = case.lease("far", "6Gi")
    case.clients.clear()
    assert not case.plan().complete and "on its way out" in ways(case.plan())["far"]
    case.has(lease, deleting=True)
    assert "on its way out" in ways(case.plan())["far"]


def test_from_a_client_node_the_pod_goes_and_its_own_slices_make_room_for_it() -> None:
    case = Case(node("g", 24))
    case.lease("far", "20Gi", served=True)
    case.engine.observe_node(client("d"))
    charge = case.engine.ledger.charge_of("uid-far")
    assert charge is not None and charge.node == "c"
    assert ways(case.plan("c")) == {"far": ("d", ())}


def test_a_standing_lease_goes_by_itself_used_or_not_and_gives_its_room_back_when_stopped() -> None:
    case = Case(node("g", 24), node("h", 24))
    size = Size(6 * GIB, 0)
    lease = case.has(
        GpuLease("default", "mine", "uid-mine", None, "g", Share("GPU-g-0", 6 * GIB), standing=True, wanted=size)
    )
    case.engine.observe_host(Host("h", 64_000, 64 * GIB))
    free = case.plan().moves
    assert [(move.name, move.uid, move.lease, move.target) for move in free] == [("mine", "uid-mine", "mine", "h")]
    used = case.has(lease, client=Client("web", "uid-web", "c0", "c"))
    assert [(move.name, move.uid, move.target) for move in case.plan().moves] == [("web", "uid-web", "h")]
    case.has(replace(used, client=None, stopped=True))
    assert ways(case.plan()) == {"mine": "belongs to a GPULease that is stopped, and is given back"}
