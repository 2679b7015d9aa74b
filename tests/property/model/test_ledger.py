"""The ledger's invariants, over random histories of nodes and pods.

A reservation never over-commits and nothing goes negative by one; facts may arrive in any order; and a ledger that
is rebuilt from the API's objects equals the one that lived through it all. So with the hosts' CPU and memory, which
are facts alone and may go below zero.
"""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.charges import Charge, charge_of, totals_of
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.hosts import UNKNOWN_HOST, Host, HostNeed
from tessera.model.ledger import Ledger
from tessera.model.pods import ContainerSpec, Pod

INSTALLED = {"a": (40,) * 8, "b": (20, 30), "c": (10, 10, 20, 5, 10, 10, 10, 10, 10, 10)}
NODES = tuple(INSTALLED)
ARRAYS = ("mem_bytes", "free_bytes", "free_percent", "tenants", "level", "present", "healthy", "exclusive")


def gpu(node: str, index: int, mem: int, healthy: bool) -> Gpu:
    return Gpu(
        f"GPU-{node}-{index}",
        "L4" if index % 2 else "T4",
        mem,
        mem,
        health=Health(healthy, "" if healthy else "Xid 79"),
    )


def pod_of(uid: str, charge: Charge, phase: str = "Running") -> Pod:
    shares = charge.assignment.shares if charge.assignment else ()
    limits = {names.GPU_MEM: str(sum(s.mem_bytes for s in shares)), names.SLICE: "1"}
    if any(s.whole for s in shares):
        limits = {names.GPU: str(len(shares)), names.SLICE: "1"}
    written = {names.ASSIGNMENT: encode(charge.assignment)} if charge.assignment else {}
    return Pod("ns", uid, uid, (ContainerSpec("c", "spec.containers[0]", limits=limits),), written, charge.node, phase)


def facts(ledger: Ledger) -> dict[str, dict[str, list[int]]]:
    return {
        node.name: {
            **{name: getattr(ledger, name)[ledger.rows()[node.name]][: len(node.gpus)].tolist() for name in ARRAYS},
            "sums": [
                int(getattr(ledger, n)[ledger.rows()[node.name]])
                for n in ("node_mem", "node_core", "node_gpus", "node_slots", "free_cpu", "free_memory")
            ],
            "place": place_of(ledger, ledger.rows()[node.name]),
        }
        for node in ledger.nodes()
    }


def place_of(ledger: Ledger, row: int) -> tuple[str, tuple[str, str]]:
    """The names behind the numbers, which depend on who came first."""
    zones = {number: zone for zone, number in ledger.zones().items()}
    racks = {number: rack for rack, number in ledger.racks().items()}
    return zones[int(ledger.zone[row])], racks.get(int(ledger.rack[row]), ("", ""))


class LedgerHistory(RuleBasedStateMachine):
    pods = Bundle("pods")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.nodes: dict[str, GpuNode] = {}
        self.bound: dict[str, Pod] = {}
        self.hosts: dict[str, Host] = {}
        self.occupied: dict[str, tuple[str, HostNeed]] = {}
        self.shrunk = False
        self.count = 0

    @rule(name=st.sampled_from(NODES), sick=st.integers(0, 9))
    def node_appears_or_a_gpu_falls_sick(self, name: str, sick: int) -> None:
        self._publish(name, INSTALLED[name], sick)

    @rule(name=st.sampled_from(NODES), mems=st.lists(st.integers(1, 40), max_size=10))
    def node_comes_back_with_other_gpus(self, name: str, mems: list[int]) -> None:
        if self.count > 12:
            self.shrunk = True
            self._publish(name, tuple(mems), sick=-1)

    def _publish(self, name: str, mems: tuple[int, ...], sick: int) -> None:
        self.nodes[name] = GpuNode(name, tuple(gpu(name, i, mem, i != sick) for i, mem in enumerate(mems)))
        self.ledger.upsert_node(self.nodes[name])

    @rule(name=st.sampled_from(NODES))
    def node_goes(self, name: str) -> None:
        self.nodes.pop(name, None)
        self.ledger.remove_node(name)

    @rule(
        target=pods,
        name=st.sampled_from(NODES),
        columns=st.sets(st.integers(0, 9), min_size=1, max_size=3),
        mem=st.integers(1, 40),
        core=st.integers(0, 100),
        whole=st.booleans(),
    )
    def pod_is_reserved(self, name: str, columns: set[int], mem: int, core: int, whole: bool):  # type: ignore[no-untyped-def]
        self.count += 1
        uid = f"pod-{self.count}"
        shares = []
        for column in sorted(columns):
            known = self.nodes.get(name)
            installed = known.gpus[column].mem_bytes if known and column < len(known.gpus) else mem
            shares.append(Share(f"GPU-{name}-{column}", installed if whole else mem, 100 if whole else core, whole))
        charge = Charge(
            name,
            totals_of(pod_of(uid, Charge(name, None, Assignment((("c", tuple(shares)),))))),
            Assignment((("c", tuple(shares)),)),
            "ns",
        )  # type: ignore[arg-type]
        before = facts(self.ledger)
        if self.ledger.reserve(uid, charge) is not None:
            assert facts(self.ledger) == before
            return multiple()
        self.bound[uid] = pod_of(uid, charge)
        return uid

    @rule(uid=pods)
    def pod_is_seen_again(self, uid: str) -> None:
        if uid in self.bound:
            charge = charge_of(self.bound[uid])
            assert charge is not None
            self.ledger.charge(uid, charge)

    @rule(uid=pods)
    def pod_ends(self, uid: str) -> None:
        self.bound.pop(uid, None)
        self.ledger.release(uid)

    @rule(name=st.sampled_from(NODES))
    def pod_without_an_assignment_is_bound_by_others(self, name: str) -> None:
        self.count += 1
        limits = {names.GPU_MEM: "7", names.SLICE: "1"}
        pod = Pod("ns", "x", f"pod-{self.count}", (ContainerSpec("c", "f", limits=limits),), {}, name, "Pending")
        self.bound[pod.uid] = pod
        charge = charge_of(pod)
        assert charge is not None and charge.assignment is None
        self.ledger.charge(pod.uid, charge)

    @rule(name=st.sampled_from((*NODES, "without GPUs")), cpu=st.integers(0, 9), place=st.sampled_from(["", "a", "b"]))
    def host_appears_or_changes(self, name: str, cpu: int, place: str) -> None:
        self.hosts[name] = Host(name, 1000 * cpu, 7 << 30, place, place and f"rack-{cpu % 2}")
        self.ledger.upsert_host(self.hosts[name])

    @rule(name=st.sampled_from(NODES))
    def host_goes(self, name: str) -> None:
        self.hosts.pop(name, None)
        self.ledger.remove_host(name)

    @rule(uid=st.integers(0, 5), node=st.sampled_from(NODES), cpu=st.integers(0, 3000), memory=st.integers(0, 9))
    def pod_takes_of_a_host(self, uid: int, node: str, cpu: int, memory: int) -> None:
        self.occupied[f"host-pod-{uid}"] = node, HostNeed(cpu, memory << 30)
        self.ledger.occupy(f"host-pod-{uid}", *self.occupied[f"host-pod-{uid}"])

    @rule(uid=st.integers(0, 5))
    def pod_leaves_its_host(self, uid: int) -> None:
        self.occupied.pop(f"host-pod-{uid}", None)
        self.ledger.vacate(f"host-pod-{uid}")

    @invariant()
    def what_is_free_of_a_host_is_what_its_pods_leave(self) -> None:
        for name, row in self.ledger.rows().items():
            free = int(self.ledger.free_cpu[row]), int(self.ledger.free_memory[row])
            held = [need for node, need in self.occupied.values() if node == name]
            host = self.hosts.get(name)
            if host is None:
                assert free == (UNKNOWN_HOST, UNKNOWN_HOST)
            else:
                used = sum(need.cpu_milli for need in held), sum(need.memory_bytes for need in held)
                assert free == (host.cpu_milli - used[0], host.memory_bytes - used[1])

    @invariant()
    def a_rebuild_gives_the_same_ledger(self) -> None:
        rebuilt = Ledger()
        for uid, pod in reversed(self.bound.items()):
            charge = charge_of(pod)
            assert charge is not None
            rebuilt.charge(uid, charge)
        for uid, (name, need) in reversed(self.occupied.items()):
            rebuilt.occupy(uid, name, need)
        for host in reversed(self.hosts.values()):
            rebuilt.upsert_host(host)
        for node in reversed(self.nodes.values()):
            rebuilt.upsert_node(node)
        assert facts(rebuilt) == facts(self.ledger)
        assert dict(rebuilt.charges()) == dict(self.ledger.charges())

    @invariant()
    def reservations_never_over_commit(self) -> None:
        if not self.shrunk:
            assert not self.ledger.over_committed()
            assert (self.ledger.free_bytes >= 0).all() and (self.ledger.free_percent >= 0).all()
        assert np.all(self.ledger.free_bytes <= self.ledger.mem_bytes)
        assert np.all(self.ledger.tenants >= 0)

    @invariant()
    def the_arrays_are_the_sum_of_the_charges(self) -> None:
        for node in self.nodes.values():
            for column, each in enumerate(node.gpus):
                held = [s for c in self.ledger.charges().values() if c.assignment and c.node == node.name
                        for s in c.assignment.shares if s.uuid == each.uuid]  # fmt: skip
                at = (self.ledger.rows()[node.name], column)
                assert self.ledger.free_bytes[at] == each.mem_bytes - sum(s.mem_bytes for s in held)
                assert self.ledger.tenants[at] == len(held)
                assert bool(self.ledger.exclusive[at]) == any(s.whole for s in held)


LedgerHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = LedgerHistory.TestCase
