"""Victims of any cluster: all lower, enough, and none of them without need."""

from dataclasses import replace
from itertools import combinations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tessera.model.pods import Pod
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.options import Options
from tessera.scheduler.victims import Plan
from tests.unit.scheduler.clusters import grouped
from tests.unit.scheduler.preemptions import Full, pod

ASKS = ("gpu-mem=4Gi", "gpu-mem=9Gi gpu-core=40", "gpu-mem=20Gi", "gpu=1", "gpu-mem=12Gi gpu-count=2", "gpu-core=50")
Placed = list[tuple[str, str, int, str]]
tenants = st.lists(
    st.tuples(
        st.sampled_from(ASKS), st.sampled_from("ab"), st.sampled_from([0, 5, 5, 50]), st.sampled_from(["x", "y"])
    ),
    max_size=9,
)
trust = st.sampled_from(["cluster", "namespace"])


def cluster(placed: Placed, trust: str = "cluster", groups: str = "..", level: int = 0) -> Full:
    options = Options(trust_domain=trust, level=level)
    full = Full(grouped("a", groups), grouped("b", "."), options=options)
    for index, (ask, on, priority, namespace) in enumerate(placed):
        if full.engine.filter(replace(pod(f"t{index}", ask), namespace=namespace), [on]).nodes:
            full.run(f"t{index}", ask, on, priority, namespace=namespace)
    return full


def fits_without(full: Full, ask: str, plan_node: str, gone: tuple[str, ...]) -> bool:
    """By taking them out for good, in a cluster of its own."""
    other = Full(*full.engine.ledger.nodes(), options=full.engine.options)
    for shown in full.pods.values():
        if shown.uid not in gone:
            other.show(shown)
    return bool(other.engine.filter(_asking(ask), [plan_node]).nodes)


def _asking(ask: str) -> Pod:
    return replace(pod("asking", ask, priority=10), namespace="x")


@settings(max_examples=150, deadline=None)
@given(
    placed=tenants,
    ask=st.sampled_from(ASKS),
    trust=trust,
    groups=st.sampled_from(["..", "gg", "g.g"]),
    level=st.sampled_from([0, 1]),
)
def test_victims_are_lower_enough_and_needed(placed: Placed, ask: str, trust: str, groups: str, level: int) -> None:
    full = cluster(placed, trust, groups, level)
    asking = _asking(ask)
    fits = bool(full.engine.filter(asking, ["a", "b"]).nodes)
    plan = full.plan(asking)
    if fits:
        assert plan is not None and not plan.victims
    for name in "ab":
        found = full.case(asking).plan(name)
        everybody_lower = tuple(p.uid for p in full.pods.values() if p.priority < 10)
        assert (found is not None) == fits_without(full, ask, name, everybody_lower)
        if found is not None:
            _check(full, ask, found)
            assert plan is not None and plan.badness <= found.badness
    before = full.engine.ledger.free_bytes.copy()
    full.plan(asking)
    assert (full.engine.ledger.free_bytes == before).all()


def _check(full: Full, ask: str, plan: Plan) -> None:
    victims = tuple(victim.uid for victim in plan.victims)
    assert all(victim.priority < 10 for victim in plan.victims)
    assert fits_without(full, ask, plan.node, victims)
    for fewer in combinations(victims, len(victims) - 1) if victims else ():
        assert not fits_without(full, ask, plan.node, fewer)


@settings(max_examples=100, deadline=None)
@given(placed=tenants, order=st.randoms(), trust=trust)
def test_what_is_taken_out_and_put_back_leaves_no_trace(placed: Placed, order: object, trust: str) -> None:
    full = cluster(placed, trust, "gg")
    assume(full.pods)
    ledger, state = full.engine.ledger, Hypothesis(full.engine.ledger)
    uids = [shown.uid for shown in full.pods.values()]
    order.shuffle(uids)  # type: ignore[attr-defined]
    for uid in uids:
        state.take_out(uid)
    assert (state.free_bytes == ledger.mem_bytes).all() and not state.exclusive.any() and not state.tenants.any()
    order.shuffle(uids)  # type: ignore[attr-defined]
    for uid in uids:
        state.put_back(uid)
    for name in ("domain", "free_bytes", "free_percent", "tenants", "exclusive", "node_mem", "node_core", "node_gpus"):
        assert (getattr(state, name) == getattr(ledger, name)).all(), name
