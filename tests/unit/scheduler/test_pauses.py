"""How often a lease that cannot move is looked at."""

from dataclasses import replace

from tessera.model.assignment import Share
from tessera.model.gpu_leases import Client, GpuLease
from tessera.scheduler.pauses import Pauses
from tessera.scheduler.relocation import Cause, Kind
from tests.unit.scheduler.clusters import Clock

LEASE = GpuLease("default", "l", "uid", Client("p", "uid-p", "c0", "c"), "g", Share("GPU-g-0", 1))
CAUSE = Cause(Kind.CORDON, "node g is cordoned")


def test_less_and_less_often_but_at_once_where_anything_has_changed() -> None:
    clock = Clock()
    pauses, asked, looks = Pauses(clock), {"uid": (LEASE, CAUSE)}, []
    for _ in range(60):
        if pauses.due(asked, 9):
            looks.append(clock.now - 100)
            pauses.pause(LEASE, CAUSE)
        clock.now += 1
    assert looks == [0, 1, 3, 7, 15, 25, 35, 45, 55]
    changed = replace(LEASE, node="h")
    assert pauses.due({"uid": (changed, CAUSE)}, 9) == [(changed, CAUSE)]
    pauses.pause(LEASE, CAUSE)
    other = Cause(Kind.HEALTH, "sick")
    assert pauses.due({"uid": (LEASE, other)}, 9) == [(LEASE, other)]
    pauses.pause(LEASE, CAUSE)
    pauses.end("uid")
    assert pauses.due(asked, 9) == [(LEASE, CAUSE)]


def test_who_has_waited_longest_comes_first_and_the_others_after() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    leases = [replace(LEASE, uid=str(index)) for index in range(3)]
    asked = {lease.uid: (lease, CAUSE) for lease in leases}
    assert pauses.due(asked, 2) == [(leases[0], CAUSE), (leases[1], CAUSE)]
    pauses.pause(leases[0], CAUSE)
    clock.now += 1
    pauses.pause(leases[1], CAUSE)
    clock.now += 2
    assert pauses.due(asked, 2) == [(leases[2], CAUSE), (leases[0], CAUSE)]
