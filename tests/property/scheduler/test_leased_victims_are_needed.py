"""Victims where slices are of leases: all lower, enough with all that they hold, and none of them without need."""

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.pods import Pod
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import POOL, client, remote
from tests.unit.scheduler.preemptions import Full, node, pod

ASKS = ("gpu-mem=4Gi", "gpu-mem=9Gi gpu-core=40", "gpu-mem=20Gi", "gpu-core=50")
Placed = list[tuple[list[str], int, bool, str]]
tenants = st.lists(
    st.tuples(
        st.lists(st.sampled_from(ASKS), min_size=1, max_size=2),
        st.sampled_from([0, 5, 5, 50]), st.booleans(), st.sampled_from(["away", "away", "g", "h"]),
    ),
    max_size=8,
)  # fmt: skip


def cluster(placed: Placed) -> Full:
    full = Full(client("c", 32), node("g", 24, 24), node("h", 24), options=Options(pool=POOL))
    for index, (asks, priority, is_served, where) in enumerate(placed):
        name = f"t{index}"
        if where != "away":
            if full.engine.filter(pod(name, asks[0]), [where]).nodes:
                full.run(name, asks[0], where, priority)
        elif full.engine.filter(remote(name, *asks), ["c"]).nodes:
            full.engine.undo(f"uid-{name}")
            for lease in full.run_away(name, *asks, on="c", priority=priority):
                if is_served:
                    full.serve(lease, f"x-{name}-{lease.client.container}")
    return full


def fits_without(full: Full, asking: Pod, on: str, gone: Collection[str]) -> bool:
    """With all rooms of ``gone`` taken out, wherever they are and however they are held."""
    state = Hypothesis(full.engine.ledger)
    for name in ("c", "g", "h"):
        for uid, keys in full.holders.rooms(name).items():
            for key in keys if uid in gone else ():
                state.take_out(key)
    return full.case(asking)._room(state, on) is not None


@settings(max_examples=150, deadline=None)
@given(placed=tenants, ask=st.sampled_from(ASKS), away=st.booleans())
def test_victims_are_lower_enough_and_needed(placed: Placed, ask: str, away: bool) -> None:
    full = cluster(placed)
    asking = replace((remote if away else pod)("asking", ask), priority=10)
    before = dict(full.engine.ledger.charges())
    clients = {found.uid: found for found in full.pods.values() if not found.lease}
    for on in ("g", "h"):
        plan = full.case(asking).plan(on)
        lower = [uid for uid, found in clients.items() if found.priority < 10]
        assert (plan is not None) == fits_without(full, asking, on, lower)
        victims = [victim.uid for victim in plan.victims] if plan else []
        assert len(set(victims)) == len(victims) and set(victims) <= set(lower), "clients, each once"
        assert plan is None or fits_without(full, asking, on, victims)
        for fewer in combinations(victims, len(victims) - 1) if victims else ():
            assert not fits_without(full, asking, on, fewer)
        best = full.plan(asking)
        assert plan is None or (best is not None and best.badness <= plan.badness), "the shortlist misses no node"
    assert dict(full.engine.ledger.charges()) == before


@settings(max_examples=150, deadline=None)
@given(placed=tenants, ask=st.sampled_from(ASKS))
def test_room_made_elsewhere_is_enough_for_the_lease(placed: Placed, ask: str) -> None:
    full = cluster(placed)
    asking = replace(remote("asking", ask), priority=10)
    if full.engine.filter(asking, ["c"]).nodes or (plan := full.plan(asking)) is None:
        return
    full.nominations.take_over(asking, plan.room, 60.0)
    for victim in plan.victims:
        go(full, victim.name)
        full.nominations.settle()
        assert not full.engine.ledger.over_committed()
    assert full.engine.filter(asking, ["c"]).nodes == ["c"]
    assert isinstance(full.engine.reserve(asking.uid, "c"), tuple)
    [lease] = full.engine.leases.promised(asking.uid)
    assert lease.node in {"g", "h"} and not full.engine.ledger.over_committed(), "also where else a victim was"


def go(full: Full, name: str) -> None:
    """The pod ends, then its executors and leases."""
    uid = full.pods[name].uid
    full.change(name, phase="Succeeded")
    for lease in [each for each in full.engine.leases.all() if each.client.pod_uid == uid]:
        for serving in [each.name for each in full.pods.values() if each.lease == lease.key]:
            full.change(serving, phase="Succeeded")
        full.engine.leases.forget(lease)
