"""A pod whose slice is to be on another node takes the place of pods of lower priority there."""

from dataclasses import replace

import pytest

from tessera.model.gpu_leases import GpuLease
from tessera.model.pods import Pod
from tessera.scheduler.options import Options
from tessera.scheduler.preemption import case_of
from tests.unit.scheduler.clusters import POOL, client, executor, remote
from tests.unit.scheduler.preemptions import Full, node, pod


def asks(*limits: str, priority: int = 100) -> Pod:
    return replace(remote("high", *(limits or ("gpu-mem=20Gi",))), priority=priority)


@pytest.fixture
def full() -> Full:
    return Full(client("c"), node("g", 24), node("h", 24), options=Options(pool=POOL))


def keep(full: Full, asked: Pod) -> None:
    plan = full.plan(asked)
    assert plan is not None
    full.nominations.take_over(asked, plan.room, 60.0)


def lease_of(full: Full, asked: Pod) -> GpuLease:
    """What it is bound with, if the client node is offered alone."""
    assert full.engine.filter(asked, ["c"]).nodes == ["c"]
    assert isinstance(full.engine.reserve(asked.uid, "c"), tuple)
    [lease] = full.engine.leases.promised(asked.uid)
    return lease


def test_local_pods_and_pods_elsewhere_are_victims_alike(full: Full) -> None:
    full.run("ten", "gpu-mem=20Gi", "g", priority=10)
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c", priority=5)
    full.serve(lease, "x")
    plan = full.plan(asks())
    assert plan and (plan.node, [victim.name for victim in plan.victims]) == ("h", ["far"])
    assert plan.room.totals.slots == 1 and full.victims(asks(priority=5)) == []
    full.change("far", priority=20)
    assert full.victims(asks()) == ["ten"]


def test_the_room_is_kept_while_it_is_made_and_the_lease_is_then_there(full: Full) -> None:
    full.run("low", "gpu-mem=20Gi", "g", priority=5)
    full.run("other", "gpu-mem=20Gi", "h", priority=50)
    asked = asks()
    assert full.engine.filter(asked, ["c"]).nodes == []
    keep(full, asked)
    full.change("low", phase="Succeeded")
    full.nominations.settle()
    for newcomer in (pod("local", "gpu-mem=20Gi"), replace(remote("away", "gpu-mem=20Gi"), priority=99)):
        assert full.engine.filter(newcomer, ["c", "g", "h"]).nodes == []
        assert not full.engine.ledger.over_committed()
    lease = lease_of(full, asked)
    assert (lease.node, lease.client.node) == ("g", "c")
    assert not full.engine.ledger.over_committed()
    full.nominations.settle()
    assert full.engine.leases.promised(asked.uid) == (lease,), "what is reserved is not kept anew"


def test_a_refusal_meanwhile_keeps_what_is_there(full: Full) -> None:
    full.run("large", "gpu-mem=12Gi", "g", priority=5)
    full.run("small", "gpu-mem=8Gi", "g", priority=5)
    full.run("other", "gpu-mem=20Gi", "h", priority=50)
    asked = asks()
    keep(full, asked)
    full.change("large", phase="Succeeded")
    full.nominations.settle()
    assert full.engine.filter(asked, ["c"]).nodes == []
    assert full.engine.filter(pod("local", "gpu-mem=8Gi"), ["g"]).nodes == [], "16 GiB are free, and kept"
    full.nominations.withdraw(asked.uid)
    assert full.engine.filter(pod("local", "gpu-mem=8Gi"), ["g"]).nodes == ["g"]


def test_executors_and_pods_of_several_slices_push_nobody_out(full: Full) -> None:
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c", priority=5)
    for each in (asks("gpu-mem=4Gi", "gpu-mem=4Gi"), replace(executor(lease), priority=100)):
        assert case_of(full.engine, full.holders, full.nominations, each) is None
    assert case_of(full.engine, full.holders, full.nominations, asks()) is not None
