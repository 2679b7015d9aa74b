"""Which bytes count against which limit."""

from dataclasses import replace

from tessera.model.assignment import Share
from tessera.node_agent.accounting import account
from tessera.node_agent.cgroups import Container
from tessera.node_agent.nvml import GpuProcess
from tessera.node_agent.processes import Process
from tessera.node_agent.slices import Slice

A, B = Container("pod", "aa"), Container("pod", "bb")
MAIN = Slice("s1", "pod", "ns", "p", "main", (Share("G0", 10), Share("G1", 20)))
SIDE = Slice("s2", "pod", "ns", "p", "side", (Share("G0", 30),))
NAMES = {A: "main", B: "side"}


def look(found, owners, slices=(MAIN, SIDE), names=NAMES):
    processes = {pid: Process(pid, 1, owner) for pid, owner in owners.items()}
    accounts = account([GpuProcess(*one) for one in found], processes, slices, names.get)
    return {(u.container, u.gpu_uuid): (u.used_bytes, u.limit_bytes, u.slices) for u in accounts.usages}, accounts


def test_two_containers_of_one_pod_have_their_own_limits():
    found, _ = look([(1, "G0", 4), (2, "G0", 5), (3, "G0", 6), (1, "G1", 7)], {1: A, 2: A, 3: B})
    assert found == {(A, "G0"): (9, 10, ("s1",)), (B, "G0"): (6, 30, ("s2",)), (A, "G1"): (7, 20, ("s1",))}


def test_a_gpu_that_was_not_given_has_limit_zero():
    found, accounts = look([(3, "G1", 1)], {3: B})
    assert found == {(B, "G1"): (1, 0, ("s2",))}
    assert accounts.usages[0].over


def test_a_container_without_a_slice_in_a_pod_with_one():
    found, _ = look([(1, "G0", 1)], {1: Container("pod", "cc")}, names={Container("pod", "cc"): "plain"})
    assert found == {(Container("pod", "cc"), "G0"): (1, 0, ())}


def test_before_the_name_is_known_the_largest_limit_of_the_pod_holds():
    found, _ = look([(1, "G0", 25)], {1: A}, names={})
    assert found == {(A, "G0"): (25, 30, ("s1", "s2"))}


def test_processes_of_nobody_and_of_other_pods_are_foreign():
    found, accounts = look([(1, "G0", 5), (2, "G0", 5), (3, "G0", 5)], {1: None, 2: Container("other", "aa")})
    assert found == {}
    assert [p.pid for p in accounts.foreign] == [1, 2, 3]


def test_untold_bytes_are_not_zero_bytes():
    _, accounts = look([(1, "G0", None), (2, "G0", 4)], {1: A, 2: A})
    assert (accounts.usages[0].used_bytes, accounts.usages[0].blind) == (4, True)


def test_best_effort_is_what_holds_nothing_better():
    cheap = replace(SIDE, qos="best-effort")
    _, accounts = look([(1, "G0", 4), (3, "G0", 5)], {1: A, 3: B}, (MAIN, cheap))
    assert [(u.container, u.best_effort) for u in accounts.usages] == [(A, False), (B, True)]
    _, unnamed = look([(3, "G0", 5)], {3: B}, (MAIN, cheap), {})
    assert not unnamed.usages[0].best_effort, "until the container's name is known it may be the better one"


def test_a_whole_unit_has_no_limit_and_beside_it_there_is_none_to_use():
    whole = Slice("s3", "pod", "ns", "p", "main", (Share("MIG-a", 10, 100, whole=True),))
    _, accounts = look([(1, "MIG-a", 1 << 50), (1, "MIG-b", 1)], {1: A}, (whole,))
    assert [(u.gpu_uuid, u.used_bytes, u.over) for u in accounts.usages] == [
        ("MIG-a", 1 << 50, False),
        ("MIG-b", 1, True),
    ]
