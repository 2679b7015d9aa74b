"""Slices over several GPUs: what the scheduler answers is what the node agent would not refuse, and nothing less.

The rule is written here once more, apart from the code that is tested: above level 0 a slice over several GPUs is held
by the driver (level 3) on any of them, by MPS (level 1) within one group, and over partitions (level 2) nowhere.
"""

from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tessera.model import names
from tessera.model.assignment import Assignment, decode
from tessera.model.charges import totals_of
from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.gpus import Gpu, GpuNode
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.scheduler.options import Options
from tests.property.scheduler.histories import PodsHistory
from tests.unit.scheduler.clusters import bound, engine, grouped, place, pod
from tests.unit.scheduler.preemptions import Full

ONE = ("gpu-mem=3Gi", "gpu-mem=5Gi gpu-core=60", "gpu=1")
SEVERAL = ("gpu-mem=6Gi gpu-count=2", "gpu-mem=12Gi gpu-count=2", "gpu-mem=9Gi gpu-count=3", "gpu-core=120 gpu-count=2")
ASKS = st.sampled_from(ONE + SEVERAL)
GPUS = st.lists(
    st.tuples(st.sampled_from("gh."), st.sampled_from([0, 1, 1, 1, 2, 3]), st.sampled_from([6, 8, 10])),
    min_size=1, max_size=4,
)  # fmt: skip
Free = list[tuple[int, int, int]]


def held(gpus: list[Gpu], need: ContainerDemand, level: int, named: bool) -> bool:
    """``named``: by the pod itself, whose whole GPUs then have to reach the level too, each for itself."""
    if need.whole and not named:
        return True
    if any(gpu.level < level for gpu in gpus):
        return False
    if need.whole:
        return True
    if level == 0 or len(gpus) == 1 or all(gpu.level == 3 for gpu in gpus):
        return True
    return {(gpu.level, gpu.mps_group) for gpu in gpus} in ({(1, "g")}, {(1, "h")})


def made(name: str, found: list[tuple[str, int, int]]) -> GpuNode:
    plain = grouped(name, "".join(group for group, _, _ in found))
    sized = zip(plain.gpus, found, strict=True)
    return GpuNode(
        name,
        tuple(replace(gpu, level=level, mem_bytes=gib * GIB, total_bytes=gib * GIB) for gpu, (_, level, gib) in sized),
    )


def holds(free: Free, gpus: tuple[Gpu, ...], containers: tuple[ContainerDemand, ...], level: int, named: bool) -> bool:
    """Every placement in turn; ``free`` is (bytes, percent, tenants) of each GPU."""
    if not containers:
        return True
    first, rest = containers[0], containers[1:]
    for columns in combinations(range(len(free)), first.gpus):
        left = list(free)
        for column in columns:
            mem, percent, tenants = free[column]
            left[column] = (mem - first.mem_on(gpus[column]), percent - first.core_percent, tenants + 1)
        if first.whole and any(free[column][2] for column in columns):
            continue
        if not held([gpus[column] for column in columns], first, level, named):
            continue
        if all(min(mem, percent) >= 0 for mem, percent, _ in left) and holds(left, gpus, rest, level, named):
            return True
    return False


def check(on: GpuNode, demand: PodDemand, assignment: Assignment, cluster_level: int) -> None:
    own = demand.preferences.enforcement
    level, named = (cluster_level, False) if own is None else (own, True)
    by_uuid = {gpu.uuid: gpu for gpu in on.gpus}
    for need in demand.containers:
        gpus = [by_uuid[share.uuid] for share in assignment.of(need.container) or ()]
        assert len(gpus) == need.gpus and held(gpus, need, level, named), (need, gpus)


@settings(max_examples=250, deadline=None)
@given(
    found=GPUS,
    before=st.lists(st.sampled_from(["gpu-mem=3Gi", "gpu-mem=1Gi gpu-core=50"]), max_size=3),
    asks=st.lists(ASKS, min_size=1, max_size=3),
    level=st.sampled_from([0, 1, 1, 2, 3]),
    policy=st.sampled_from(["pack", "spread", "fragmentation"]),
    named=st.booleans(),
)
def test_the_filter_knows_every_placement_that_is_held(
    found: list[tuple[str, int, int]], before: list[str], asks: list[str], level: int, policy: str, named: bool
) -> None:
    on = made("a", found)
    cluster = engine(on, options=Options(placement=policy, level=0 if named else level))
    for index, ask in enumerate(before):
        early = pod(f"early{index}", ask, annotations={"tessera.io/enforcement": "0"})
        if cluster.filter(early, ["a"]).nodes:
            place(cluster, early)
    asked = pod("p", *asks, annotations={"tessera.io/enforcement": str(level)} if named else {})
    demand = demand_of(asked)
    assert isinstance(demand, PodDemand)
    ledger, row = cluster.ledger, cluster.ledger.rows()["a"]
    arrays = (ledger.free_bytes, ledger.free_percent, ledger.tenants)
    state = [tuple(int(array[row, column]) for array in arrays) for column in range(len(on.gpus))]
    room = bool(ledger.room_of(totals_of(asked))[row])
    expected = room and holds(state, on.gpus, demand.containers, level, named)  # type: ignore[arg-type]
    answer = cluster.filter(asked, ["a"])
    assert answer.nodes == (["a"] if expected else []), answer.reason
    if expected:
        check(on, demand, place(cluster, asked), level)
    else:
        assert answer.reason is not None and sum(answer.reason.counts.values()) == len(on.gpus)


class GroupsHistory(PodsHistory):
    """Pods come, are bound, push others out and end; nodes publish other groups and levels; schedulers restart."""

    @initialize(policy=st.sampled_from(["fragmentation", "spread", "pack"]), level=st.sampled_from([0, 1]))
    def start(self, policy: str, level: int) -> None:
        self.options = Options(placement=policy, level=level)
        self.nodes = {"a": grouped("a", "gghh"), "b": grouped("b", "g.g"), "c": grouped("c", "..", level=3)}
        self.pods: dict[str, Pod] = {}
        self.count = 0
        self.full = self._scheduler()

    def _scheduler(self) -> Full:
        full = Full(*self.nodes.values(), options=self.options)
        for each in self.pods.values():
            full.show(each)
        return full

    @rule(asks=st.lists(ASKS, min_size=1, max_size=2), level=st.sampled_from(["", "0", "1", "2"]),
          priority=st.sampled_from([0, 5, 10]))  # fmt: skip
    def pod_is_created(self, asks: list[str], level: str, priority: int) -> None:
        self.count += 1
        notes = {"tessera.io/enforcement": level} if level else {}
        self.show(pod(f"p{self.count}", *asks, annotations=notes, priority=priority))

    @rule(name=st.sampled_from("abc"), groups=st.sampled_from(["gg.", "g.gh", "hh", "...", "gghh"]),
          level=st.sampled_from([0, 1, 1, 2, 3]))  # fmt: skip
    def a_node_publishes_other_groups(self, name: str, groups: str, level: int) -> None:
        self.nodes[name] = grouped(name, groups, level=level)
        self.full.engine.observe_node(self.nodes[name])

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), how=st.sampled_from(["bound", "bound", "held", "groups change in between"]))
    def kube_scheduler_tries_a_pod(self, data: st.DataObject, how: str) -> None:
        asked, engine = data.draw(st.sampled_from(self.waiting())), self.full.engine
        nodes = engine.filter(asked, list("abc")).nodes
        if not nodes:
            return
        best = max(engine.prioritize(asked, nodes), key=lambda pair: pair[1])[0]
        if how == "groups change in between":
            self.a_node_publishes_other_groups(best, data.draw(st.sampled_from(["gg.", "hh", "...", "gghh"])), 1)
        reserved = None if how == "held" else engine.reserve(asked.uid, best)
        if isinstance(reserved, tuple):
            self.bind(asked, best, reserved[1])

    def bind(self, asked: Pod, on: str, given: Assignment) -> None:
        demand = demand_of(asked)
        assert isinstance(demand, PodDemand)
        check(self.nodes[on], demand, given, self.options.level)
        self.full.engine.confirm(asked.uid)
        self.show(bound(asked, on, given))

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), on=st.sampled_from("abc"))
    def room_is_kept_for_a_pod(self, data: st.DataObject, on: str) -> None:
        asked = data.draw(st.sampled_from(self.waiting()))
        if self.full.nominations.nominate(asked, on, 20):
            assert self.full.engine.filter(asked, [on]).nodes == [on]

    @rule()
    def the_scheduler_restarts(self) -> None:
        self.full = self._scheduler()

    @invariant()
    def what_is_bound_is_counted(self) -> None:
        charges = self.full.engine.ledger.charges()
        for uid, each in self.pods.items():
            if each.node:
                assert charges[uid].assignment == decode(each.annotations[names.ASSIGNMENT])


GroupsHistory.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestGroups = GroupsHistory.TestCase
