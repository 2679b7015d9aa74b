"""Slices on other nodes than their pods': whose they are, that each counts once, and what their pods lack."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tessera.dashboard.elsewhere import words_of
from tessera.dashboard.facts import PodFacts
from tessera.dashboard.states import LeaseRoom, LeaseSize, LeaseState, PodShare, Snapshot
from tessera.model.assignment import Share
from tessera.model.charges import charge_of
from tessera.model.gpu_leases import Client, GpuLease, Slice
from tessera.model.gpus import GpuNode
from tessera.model.ledger import Ledger
from tessera.model.quantities import GIB
from tessera.scheduler.leases import Leases
from tessera.scheduler.options import PoolOptions
from tests.unit.dashboard.clusters import POOL, client_of, executor_of, gpu, lease, node, running, snapshot

SHARE = Share("G0", 8 * GIB, 30)
NODES = [node("a", gpu("G0"), gpu("G1")), GpuNode("c", (), client_slots=4)]


def seen(kept: LeaseState, *executors: PodFacts) -> Snapshot:
    return snapshot(NODES, [client_of(kept), *executors], [kept])


def test_what_an_executor_holds_is_its_clients() -> None:
    kept = lease("train", SHARE)
    shown = seen(kept, executor_of(kept, SHARE))
    (tenant,) = shown.gpus["G0"].tenants
    assert (tenant.namespace, tenant.pod, tenant.container) == ("default", "train", "main")
    assert (tenant.lease, tenant.executor) == ("default/train-1", f"{POOL}/executor-train")
    assert (shown.gpus["G0"].allocated_bytes, shown.gpus["G0"].core_percent) == (8 * GIB, 30)
    assert shown.pods["default/train"].gpus == (PodShare("G0", 8 * GIB, 30, False, "default/train-1", "a"),)
    served = shown.pods[f"{POOL}/executor-train"]
    assert (served.serves, served.client) == ("default/train-1", "default/train")


def test_a_slice_that_no_executor_holds_is_kept_by_its_lease() -> None:
    kept = lease("train", SHARE, phase="Reserved")
    for others in ((), (executor_of(kept),), (executor_of(kept, Share("G1", 8 * GIB, 30)),)):
        gpu_0 = seen(kept, *others).gpus["G0"]
        assert gpu_0.allocated_bytes == 8 * GIB
        assert [(t.pod, t.lease, t.executor) for t in gpu_0.tenants] == [("train", "default/train-1", "")]


def test_an_executor_of_a_former_lease_of_that_name_is_not_its_executor() -> None:
    kept = lease("train", SHARE)
    shown = seen(kept, executor_of(replace(kept, uid="former"), SHARE))
    assert shown.gpus["G0"].allocated_bytes == 16 * GIB
    assert [t.pod for t in shown.gpus["G0"].tenants] == ["train", "executor-train"]


def test_executors_are_no_pods_that_ask_for_slices() -> None:
    kept = lease("train", SHARE)
    totals = seen(kept, executor_of(kept, SHARE), executor_of(replace(kept, pod="other"))).totals
    assert (totals.pods, totals.running_pods, totals.waiting_pods, totals.leases) == (1, 1, 0, 1)


def test_client_nodes_have_slots_and_are_not_counted_among_those_with_gpus() -> None:
    shown = seen(lease("train", SHARE))
    assert (shown.nodes["c"].client_slots, shown.nodes["c"].used_slots, shown.nodes["c"].pods) == (4, 1, 1)
    totals = shown.totals
    assert (totals.nodes, totals.client_nodes, totals.client_slots, totals.used_slots) == (1, 1, 4, 1)


def test_a_pod_whose_lease_does_not_serve_says_so() -> None:
    lost = replace(lease("train", SHARE, phase="Lost"), message="executor x: container executor ended with status 137")
    pod = seen(lost).pods["default/train"]
    assert pod.reason == "LeaseLost" and pod.message.startswith("GPULease default/train-1: executor x: container")
    reserved = seen(lease("train", SHARE, phase="Reserved")).pods["default/train"]
    assert reserved.message == "GPULease default/train-1: its room is kept, and no executor serves yet"
    assert seen(replace(lost, phase="Active", message="", ending=True)).pods["default/train"].reason == "LeaseReleased"
    assert seen(lease("train", SHARE)).pods["default/train"].reason == ""


def test_a_pod_whose_lease_is_gone_holds_nothing_and_says_so() -> None:
    kept = lease("train", SHARE)
    for leases in ([], [replace(kept, pod_uid="another")]):
        pod = snapshot(NODES, [client_of(kept)], leases).pods["default/train"]
        assert (pod.gpus, pod.reason) == ((), "NoLease")
        assert pod.message == "GPULease default/train-1 of container main is gone, and is not made again"
    ended = snapshot(NODES, [client_of(kept, "Succeeded")], []).pods["default/train"]
    assert ended.reason == "Completed"


def test_a_pod_that_was_taken_off_a_standing_lease_says_that_instead() -> None:
    kept = replace(lease("train", SHARE), standing=True)
    assert seen(kept).pods["default/train"].reason == ""
    for user in (("", ""), ("next", "uid-next")):
        left = replace(kept, pod=user[0], pod_uid=user[1])
        pod = snapshot(NODES, [client_of(kept)], [left]).pods["default/train"]
        assert (pod.gpus, pod.reason) == ((), "NoLease")
        words = "GPULease default/train-1 of container main was taken off this pod, and does not come back to it"
        assert pod.message == words


def test_a_slice_that_no_pod_uses_is_counted_and_named_by_its_lease() -> None:
    bare = replace(lease("mine", SHARE, phase="Detached"), pod="", pod_uid="", container="", client_node="")
    executor = executor_of(bare, SHARE)
    for facts, holder in (([], ""), ([executor], f"{POOL}/executor-")):
        shown = snapshot(NODES, facts, [bare])
        (tenant,) = shown.gpus["G0"].tenants
        assert (tenant.namespace, tenant.pod, tenant.container) == ("default", "", "")
        assert (tenant.lease, tenant.executor) == ("default/mine-1", holder)
        assert shown.gpus["G0"].allocated_bytes == 8 * GIB
    served = snapshot(NODES, [executor], [bare]).pods[f"{POOL}/executor-"]
    assert (served.serves, served.client) == ("default/mine-1", "")


def test_one_without_room_holds_nothing_and_moves_nowhere() -> None:
    bare = replace(lease("mine", Share("", 0), on="", phase="Pending"), standing=True, wanted=LeaseSize(8 * GIB, 30))
    shown = snapshot(NODES, [], [bare])
    assert all(not gpu.tenants for gpu in shown.gpus.values()) and list(shown.gpus) == ["G0", "G1"]
    assert bare.rooms == () and not bare.moves
    assert replace(bare, target=LeaseRoom("a", "G1", 8 * GIB, 30)).moves


def test_the_words_for_a_lease_are_those_of_its_room_too() -> None:
    kept = replace(lease("mine", SHARE, phase="Stopped"), standing=True)
    assert words_of(replace(kept, stopped=True)).startswith("its users have stopped it; its room is given back once")
    assert words_of(kept) == words_of(replace(kept, phase="Reserved"))
    gone = replace(kept, node="", stopped=True)
    assert words_of(gone) == "its users have stopped it; it has no room"
    assert words_of(replace(gone, phase="Pending", stopped=False)) == "no room has been found for it yet"
    assert words_of(replace(kept, ending=True)) == "its deletion was asked for; it goes with its executor"
    assert words_of(replace(kept, phase="Unheard")) == "not known"


def test_where_leases_are_not_known_nothing_is_said_of_them() -> None:
    kept = lease("train", SHARE)
    shown = snapshot(NODES, [client_of(kept), executor_of(kept, SHARE)], None)
    assert shown.pods["default/train"].reason == "" and shown.leases == {}
    (tenant,) = shown.gpus["G0"].tenants
    assert (tenant.namespace, tenant.pod, tenant.lease) == (POOL, "executor-train", "default/train-1")


def test_a_lease_that_moves_has_two_slices_each_counted_once() -> None:
    kept = replace(lease("train", SHARE), target=LeaseRoom("a", "G1", 16 * GIB, 40))
    old, new = executor_of(kept, SHARE), executor_of(kept, Share("G1", 16 * GIB, 40))
    new = replace(new, pod=replace(new.pod, name="executor-next", uid="uid-next"))
    for executors, holders in (((), ("", "")), ((old,), ("train", "")), ((old, new), ("train", "next"))):
        gpus = seen(kept, *executors).gpus
        assert (gpus["G0"].allocated_bytes, gpus["G1"].allocated_bytes) == (8 * GIB, 16 * GIB)
        assert (gpus["G0"].core_percent, gpus["G1"].core_percent) == (30, 40)
        tenants = [*gpus["G0"].tenants, *gpus["G1"].tenants]
        assert [(t.pod, t.lease) for t in tenants] == [("train", "default/train-1")] * 2
        assert [t.executor for t in tenants] == [h and f"{POOL}/executor-{h}" for h in holders]
    assert [share.uuid for share in seen(kept, old, new).pods["default/train"].gpus] == ["G0"], "until it has moved"


def test_a_size_that_is_reached_moves_nothing() -> None:
    kept = lease("train", SHARE)
    assert not kept.moves and not replace(kept, wanted=LeaseSize(8 * GIB, 30)).moves
    assert replace(kept, wanted=LeaseSize(8 * GIB, 0)).moves and replace(kept, next="pool/executor-next").moves


def test_a_slice_on_a_gpu_that_nobody_reports_is_shown_on_its_node() -> None:
    assert seen(lease("train", Share("G9", GIB))).gpus["G9"].node == "a"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(1, 8),
            st.integers(0, 20),
            st.sampled_from(["", "waits", "holds", "other"]),
            st.sampled_from([None, "", "next"]),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 4), max_size=4),
)
def test_the_sums_equal_the_schedulers_ledger(
    kept: list[tuple[int, int, int, str, str | None]], own: list[int]
) -> None:
    nodes = [node("a", gpu("G0", 400), gpu("G1", 400)), GpuNode("c", (), client_slots=64)]
    facts, leases = [running(f"own-{i}", Share("G0", gib * GIB)) for i, gib in enumerate(own)], list[LeaseState]()
    for i, (at, gib, core, executor, moves) in enumerate(kept):
        share, to = Share(f"G{at}", gib * GIB, core), Share(f"G{1 - at}", 2 * gib * GIB, core)
        target = None if moves is None else LeaseRoom("a", to.uuid, to.mem_bytes, core)
        leases.append(replace(lease(f"p{i}", share), target=target))
        facts.append(client_of(leases[-1]))
        if executor:
            held = {"waits": (), "holds": (share,), "other": (Share("G0", (gib + 1) * GIB),)}[executor]
            facts.append(executor_of(leases[-1], *held))
        if moves:
            coming = executor_of(leases[-1], to)
            facts.append(replace(coming, pod=replace(coming.pod, name=f"next-{i}", uid=f"uid-next-{i}")))
    ledger = _ledger(nodes, facts, leases)
    row = ledger.row("a")
    assert row is not None
    shown = snapshot(nodes, facts, leases)
    free = [gpu.mem_bytes - gpu.allocated_bytes for gpu in shown.gpus.values()]
    assert free == [int(ledger.free_bytes[row, column]) for column in range(2)]


def _ledger(nodes: list[GpuNode], facts: list[PodFacts], leases: list[LeaseState]) -> Ledger:
    """What the scheduler charges for the same objects."""
    ledger = Ledger()
    for each in nodes:
        ledger.upsert_node(each)
    kept = Leases(ledger, PoolOptions(POOL, "executor"))
    for x in leases:
        client, share = Client(x.pod, x.pod_uid, x.container, x.client_node), Share(x.uuid, x.mem_bytes, x.core_percent)
        to = x.target and Slice(x.target.node, Share(x.target.uuid, x.target.mem_bytes, x.target.core_percent))
        kept.observe(GpuLease(x.namespace, x.name, x.uid, client, x.node, share, target=to))
    for each in facts:
        if charge := charge_of(each.pod):
            kept.bound(each.pod, charge)
    return ledger
