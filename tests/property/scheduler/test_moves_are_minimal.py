"""Plans of moves over random small clusters, against every sequence of moves carried out on an engine of its own."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.pods import Pod
from tessera.scheduler.defragment import Proposal, proposal
from tessera.scheduler.drain import DrainPlan, drain_plan
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import bound, engine, grouped, pod
from tests.unit.scheduler.populations import owned, people

ASKS = ("gpu-mem=3Gi", "gpu-mem=5Gi", "gpu-mem=6Gi gpu-core=60", "gpu-mem=4Gi", "gpu-mem=12Gi gpu-count=2")
WAITING = ("gpu-mem=14Gi", "gpu=1", "gpu=2", "gpu-mem=24Gi gpu-count=2", "gpu-mem=8Gi gpu-core=80")
AT_MOST = 2
sizes = st.lists(st.sampled_from((8, 16)), min_size=1, max_size=3)
clusters = st.lists(sizes, min_size=1, max_size=3)
crowds = st.lists(
    st.tuples(st.sampled_from(ASKS), st.integers(0, 1), st.booleans(), st.integers(0, 2)), min_size=3, max_size=8
)


def admit(cluster: Engine, wanted: Pod, names: list[str]) -> Pod | None:
    """The pod bound as kube-scheduler would bind it, or ``None`` if it has to wait."""
    filtered = cluster.filter(wanted, names)
    if not filtered.nodes:
        return None
    best = filtered.nodes[0]
    if len(filtered.nodes) > 1:
        best = max(cluster.prioritize(wanted, filtered.nodes), key=lambda pair: pair[1])[0]
    reserved = cluster.reserve(wanted.uid, best)
    assert isinstance(reserved, tuple), reserved
    found = replace(bound(wanted, best, reserved[1]), priority=wanted.priority)
    cluster.observe_pod(found)
    return found


def carried_out(pods: list[Pod], nodes: list[list[int]], wanted: Pod, target: str, order: tuple[Pod, ...]) -> bool:
    """Whether moving ``order`` off, one after the other, lets ``wanted`` in on ``target`` and nobody is left out."""
    cluster = build(nodes, pods)
    names = [each.name for each in cluster.ledger.nodes()]
    cluster.keep_room(wanted, target)
    for number, victim in enumerate(order):
        cluster.forget_pod(victim.uid)
        cluster.keep_room(wanted, target)
        if admit(cluster, replace(victim, uid=f"new-{number}", node=""), names) is None:
            return False
        assert not cluster.ledger.over_committed()
    if not cluster.keep_room(wanted, target):
        return False
    assert admit(cluster, wanted, [target]) is not None and not cluster.ledger.over_committed()
    return True


def build(nodes: list[list[int]], pods: list[Pod]) -> Engine:
    made = (grouped(f"n{i}", "ghg"[: len(gib)], *gib) for i, gib in enumerate(nodes))
    found = engine(*made, options=Options(placement="spread"))
    for each in pods:
        found.observe_pod(each)
    return found


def populated(nodes: list[list[int]], crowd: list[tuple[str, int, bool, int]]) -> tuple[list[Pod], set[str]]:
    """Pods bound where a random preference put them, and the UIDs of those that must stay."""
    cluster, pods, fixed = build(nodes, []), [], set()
    for number, (ask, priority, stays, where) in enumerate(crowd):
        wanted = pod(f"p{number}", ask, priority=priority)
        found = admit(cluster, wanted, [f"n{where % len(nodes)}"])
        if found is not None:
            pods.append(found)
            fixed |= {found.uid} if stays and number % 2 else set()
    return pods, fixed


def fewest(pods: list[Pod], fixed: set[str], nodes: list[list[int]], wanted: Pod) -> int | None:
    """By trying everything; ``None`` if ``AT_MOST`` moves are not enough."""
    if admit(build(nodes, pods), wanted, [f"n{i}" for i in range(len(nodes))]) is not None:
        return 0
    free = [each for each in pods if each.uid not in fixed and each.priority <= wanted.priority]
    for count in range(1, AT_MOST + 1):
        for order in permutations(free, count):
            if len({each.node for each in order}) == 1 and carried_out(pods, nodes, wanted, order[0].node, order):
                return count
    return None


@settings(max_examples=150, deadline=None)
@given(
    nodes=clusters,
    crowd=crowds,
    ask=st.sampled_from(WAITING),
    priority=st.integers(0, 1),
    level=st.sampled_from("01"),
)
def test_a_plan_works_as_it_says_and_none_is_shorter(
    nodes: list[list[int]], crowd: list[tuple[str, int, bool, int]], ask: str, priority: int, level: str
) -> None:
    pods, fixed = populated(nodes, crowd)
    wanted = pod("waiting", ask, annotations={"tessera.io/enforcement": level}, priority=priority)
    residents = people(*(owned(each, fixed="stays" if each.uid in fixed else "") for each in pods))
    found = proposal(build(nodes, pods), residents, wanted, AT_MOST)
    assert isinstance(found, Proposal) and found.exhausted
    assert (len(found.moves) if found.node else None) == fewest(pods, fixed, nodes, wanted)
    if found.moves:
        by_uid = {each.uid: each for each in pods}
        order = tuple(by_uid[move.uid] for move in found.moves)
        assert not fixed & {each.uid for each in order}
        assert carried_out(pods, nodes, wanted, found.node, order)


@settings(max_examples=100, deadline=None)
@given(nodes=clusters, crowd=crowds, place=st.integers(0, 2))
def test_a_drain_replayed_never_over_commits(
    nodes: list[list[int]], crowd: list[tuple[str, int, bool, int]], place: int
) -> None:
    pods, _ = populated(nodes, crowd)
    name, cluster = f"n{place % len(nodes)}", build(nodes, pods)
    found = drain_plan(cluster, people(*pods), name)
    assert isinstance(found, DrainPlan)
    assert {move.uid for move in found.moves} == {each.uid for each in pods if each.node == name}
    for move in found.moves:
        cluster.forget_pod(move.uid)
    by_uid = {each.uid: each for each in pods}
    for number, move in enumerate(found.moves):
        if move.target:
            again = admit(cluster, replace(by_uid[move.uid], uid=f"new-{number}", node=""), [move.target])
            assert again is not None and move.target != name
    assert not cluster.ledger.over_committed()
