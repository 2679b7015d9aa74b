"""Pods whose slices are on other nodes give way where their slices are, and with all of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tessera.model.assignment import Share
from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.quantities import GIB
from tessera.scheduler.budgets import Budget, Selector
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import POOL, client, pod
from tests.unit.scheduler.preemptions import Full, node

HIGH = pod("high", "gpu-mem=20Gi", priority=100)


def pool(*nodes: str, trust_domain: str = "cluster") -> Full:
    options = Options(pool=POOL, trust_domain=trust_domain)
    return Full(client("c"), *(node(name, 24) for name in nodes or ("g",)), options=options)


def held(full: Full, lease: GpuLease) -> None:
    """Its room is kept by the lease alone."""


def served(full: Full, lease: GpuLease) -> None:
    full.serve(lease, f"x-{lease.client.container}")


by_whom = pytest.mark.parametrize("begin", [held, served])
Begin = Callable[[Full, GpuLease], None]


def gone(full: Full, name: str) -> None:
    """The pod has ended; its leases have not yet."""
    full.change(name, deleting=True, grace_s=30)
    full.change(name, phase="Failed")


@by_whom
def test_the_client_is_the_victim_by_its_own_priority(begin: Begin) -> None:
    full = pool()
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c", priority=50)
    begin(full, lease)
    plan = full.plan(HIGH)
    assert plan and plan.node == "g" and [victim.key for victim in plan.victims] == ["default/far"]
    assert full.plan(replace(HIGH, priority=50)) is None


@by_whom
def test_it_is_chosen_among_others_as_any_pod(begin: Begin) -> None:
    full = pool("g", "h")
    full.run("local", "gpu-mem=20Gi", "h", priority=10)
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c", priority=5)
    begin(full, lease)
    assert full.victims(HIGH) == ["far"]
    far = Budget("default", Selector(match_labels={"app": "web"}), 0)
    full.change("far", labels={"app": "web"})
    assert full.victims(HIGH, [far]) == ["local"], "the client's budget counts"


@by_whom
def test_both_slices_of_a_pod_go_and_it_leaves_once(begin: Begin) -> None:
    full = pool()
    for lease in full.run_away("far", "gpu-mem=8Gi", "gpu-mem=9Gi", on="c"):
        begin(full, lease)
    full.run("beside", "gpu-mem=4Gi", "g", priority=50)
    plan = full.plan(HIGH)
    assert plan and [victim.name for victim in plan.victims] == ["far"]
    assert full.victims(pod("small", "gpu-mem=8Gi", priority=100)) == ["far"]


def test_slices_of_one_pod_on_two_nodes_are_one_victim_on_each() -> None:
    full = pool("g", "h")
    leases = full.run_away("far", "gpu-mem=20Gi", "gpu-mem=20Gi", on="c")
    assert {lease.node for lease in leases} == {"g", "h"}
    served(full, leases[0])
    for name in ("g", "h"):
        plan = full.case(HIGH).plan(name)
        assert plan and [victim.name for victim in plan.victims] == ["far"]


@by_whom
def test_room_that_a_lease_has_after_its_pods_end_is_waited_for(begin: Begin) -> None:
    full = pool("g", "h")
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c")
    begin(full, lease)
    full.run("other", "gpu-mem=20Gi", "h" if lease.node == "g" else "g")
    gone(full, "far")
    plan = full.plan(HIGH)
    assert plan and plan.node == lease.node and not plan.victims
    full.clock.now += 61
    assert full.victims(HIGH) == ["other"], "not for ever"


def test_a_lease_whose_pod_is_only_to_come_is_not_waited_for() -> None:
    full = pool()
    wanted = replace(pod("far", "gpu-mem=20Gi"), annotations={"tessera.io/remote": "required"})
    assert full.engine.filter(wanted, ["c"]).nodes == ["c"]
    assert isinstance(full.engine.reserve(wanted.uid, "c"), tuple)
    [lease] = full.engine.leases.promised(wanted.uid)
    full.engine.leases.observe(replace(lease, uid="lease"), 1e9)
    assert full.plan(HIGH) is None and not list(full.holders.on("g"))


def test_the_freed_room_is_the_preemptors_from_before_the_lease_goes() -> None:
    full = pool()
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c")
    served(full, lease)
    plan = full.plan(HIGH)
    assert plan
    full.engine.filter(HIGH, ["g"])
    full.nominations.take_over(HIGH, plan.room, 60)
    gone(full, "far")
    full.change("x-c0", phase="Failed")
    late = pod("late", "gpu-mem=20Gi", priority=99)
    assert full.engine.filter(late, ["g"]).nodes == [] and full.engine.filter(HIGH, ["g"]).nodes == []
    full.engine.leases.forget(lease)
    full.nominations.settle()
    assert full.engine.filter(late, ["g"]).nodes == []
    assert full.engine.filter(HIGH, ["g"]).nodes == ["g"]


def test_who_was_told_to_give_way_to_this_pod_is_no_new_victim_where_its_slice_is() -> None:
    full = pool("g", "h")
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c", priority=50)
    served(full, lease)
    full.run("low", "gpu-mem=20Gi", "h" if lease.node == "g" else "g")
    full.change("far", preempted_for=HIGH.uid)
    plan = full.case(HIGH).free(lease.node)
    assert plan and [victim.name for victim in plan.victims] == ["far"]
    assert full.holders.nodes_of(full.holders.preempted_for(HIGH.uid)[0]) == {"c", lease.node}


def test_the_room_that_a_lease_moves_to_is_its_clients_too() -> None:
    full = pool("g", "h")
    [lease] = full.run_away("far", "gpu-mem=20Gi", on="c")
    other = "h" if lease.node == "g" else "g"
    full.engine.leases.observe(replace(lease, target=Slice(other, Share(f"GPU-{other}-0", 20 * GIB))))
    assert full.victims(HIGH) == ["far"]
    gone(full, "far")
    assert all((plan := full.case(HIGH).plan(name)) and not plan.victims for name in ("g", "h"))


def test_a_gpu_of_another_trust_domain_is_free_once_its_leases_clients_have_left() -> None:
    full = pool(trust_domain="namespace")
    [lease] = full.run_away("far", "gpu-mem=2Gi", on="c", namespace="other")
    served(full, lease)
    assert full.victims(pod("high", "gpu-mem=2Gi", priority=100)) == ["far"]


@by_whom
def test_the_question_leaves_no_trace(begin: Begin) -> None:
    full = pool("g", "h")
    for lease in full.run_away("far", "gpu-mem=8Gi", "gpu-mem=9Gi", on="c"):
        begin(full, lease)
    before: dict[str, Charge] = dict(full.engine.ledger.charges())
    full.plan(HIGH)
    assert dict(full.engine.ledger.charges()) == before
