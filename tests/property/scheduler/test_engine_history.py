"""The engine beside an API server that refuses, loses answers and tells late.

Whatever the order of verbs, answers and events: no GPU is promised twice, and once everything is told and settled the
ledger is exactly what the API server holds.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tessera.model.charges import charge_of
from tessera.model.gpus import GpuNode, Health
from tessera.model.hosts import HostNeed
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tessera.scheduler.promises import Promise
from tests.unit.scheduler.clusters import Clock, bound, engine, node, pod

NODES = [node("a", 24, 24), node("b", 16), node("c", 40, 40, 40)]
NAMES = [n.name for n in NODES]
ASKS = ("gpu-mem=4Gi", "gpu-mem=20Gi", "gpu-core=50", "gpu=1", "gpu-mem=16Gi gpu-count=2 gpu-core=40")


def engine_of(pods: Iterable[Pod]) -> Engine:
    found = engine(*NODES)
    found.replace_pods(pods)
    return found


class EngineHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.engine: Engine = engine(*NODES, clock=self.clock)
        self.api: dict[str, Pod] = {}
        self.born: dict[str, Pod] = {}
        self.untold: deque[tuple[str, Pod | None]] = deque()
        self.published = {n.name: n for n in NODES}
        self.count = 0

    def _write(self, uid: str, pod: Pod | None) -> None:
        """A change in the API server that the engine has not heard of yet."""
        if pod is None:
            self.api.pop(uid, None)
        else:
            self.api[uid] = pod
        self.untold.append((uid, pod))

    @rule(ask=st.sampled_from(ASKS), containers=st.integers(1, 2))
    def pod_is_created(self, ask: str, containers: int) -> None:
        self.count += 1
        created = replace(pod(f"p{self.count}", *[ask] * containers), host=HostNeed(100 * self.count, self.count))
        self.born[created.uid] = created
        self._write(created.uid, created)

    @precondition(lambda self: self.untold)
    @rule()
    def event_arrives(self) -> None:
        uid, pod = self.untold.popleft()
        if pod is None:
            self.engine.forget_pod(uid)
        else:
            self.engine.observe_pod(pod)

    @precondition(lambda self: self.born)
    @rule(data=st.data(), outcome=st.sampled_from(["accepted", "refused", "lost after", "lost before", "held only"]))
    def kube_scheduler_tries_a_pod(self, data: st.DataObject, outcome: str) -> None:
        """Its view may be old: the pod may be bound, ended or gone by now, and then the Binding is refused."""
        pod = self.born[data.draw(st.sampled_from(sorted(self.born)))]
        nodes = self.engine.filter(pod, NAMES).nodes
        if not nodes:
            return
        best = max(self.engine.prioritize(pod, nodes), key=lambda pair: pair[1])[0]
        if outcome != "held only":
            self._bind(pod, best, outcome if self._may_be_bound(pod) else "refused")

    def _may_be_bound(self, pod: Pod) -> bool:
        now = self.api.get(pod.uid)
        return now is not None and not now.node and not now.ended

    def _bind(self, pod: Pod, node: str, outcome: str) -> None:
        reserved = self.engine.reserve(pod.uid, node)
        if isinstance(reserved, Reason):
            return
        if outcome in ("accepted", "lost after"):
            self._write(pod.uid, replace(bound(pod, node, reserved[1]), host=pod.host))
        if outcome == "accepted":
            self.engine.confirm(pod.uid)
        if outcome == "refused":
            self.engine.undo(pod.uid)

    @precondition(lambda self: self.api)
    @rule(data=st.data(), how=st.sampled_from(["Succeeded", "Failed", "gone"]))
    def pod_ends(self, data: st.DataObject, how: str) -> None:
        pod = self.api[data.draw(st.sampled_from(sorted(self.api)))]
        ended = replace(pod, phase=how)
        self._write(pod.uid, None if how == "gone" else ended)

    @rule(seconds=st.sampled_from([1, 11, 61]))
    def time_passes_and_late_reservations_are_looked_up(self, seconds: int) -> None:
        self.clock.now += seconds
        for uid in self.engine.expire():
            found = self.api.get(uid)
            if found is None:
                self.engine.forget_pod(uid)
            elif found.node:
                self.engine.observe_pod(found)
            else:
                self.engine.undo(uid)

    @rule(node=st.sampled_from(NODES), how=st.sampled_from(["gone", "fewer", "sick", "turned", "as before"]))
    def a_nodes_gpus_come_and_go(self, node: GpuNode, how: str) -> None:
        """Those that hold something may vanish too, and return in another order."""
        gpus = {
            "fewer": node.gpus[1:],
            "sick": tuple(replace(gpu, health=Health(False, "Xid 79")) for gpu in node.gpus),
            "turned": node.gpus[::-1],
        }.get(how, node.gpus)
        if how == "gone":
            self.published.pop(node.name, None)
            self.engine.forget_node(node.name)
        else:
            self.published[node.name] = GpuNode(node.name, gpus)
            self.engine.observe_node(self.published[node.name])

    @rule()
    def the_watch_breaks_and_all_is_listed_again(self) -> None:
        self.untold.clear()
        self.engine.replace(self.published.values(), self.api.values())

    @invariant()
    def no_gpu_is_promised_twice(self) -> None:
        assert self.engine.ledger.over_committed() == []
        assert (self.engine.ledger.free_bytes >= 0).all()

    @invariant()
    def the_api_server_never_holds_a_gpu_twice(self) -> None:
        assert engine_of(self.api.values()).ledger.over_committed() == []

    @invariant()
    def what_is_charged_is_a_promise_or_was_a_fact(self) -> None:
        for uid in self.engine.ledger.charges():
            assert uid in self.engine.promises() or uid in self.api or any(u == uid for u, _ in self.untold)

    @rule(count=st.integers(1, 3), node=st.sampled_from(NAMES))
    def pod_without_slices_runs(self, count: int, node: str) -> None:
        uid = f"plain-{count}"
        self._write(uid, Pod("default", uid, uid, node=node, phase="Running", host=HostNeed(7, 7)))

    @invariant()
    def cpu_and_memory_go_where_the_gpus_go(self) -> None:
        held = {uid: node for uid, (node, _) in self.engine.ledger.occupants().items() if not uid.startswith("plain")}
        assert held == {uid: charge.node for uid, charge in self.engine.ledger.charges().items()}

    def teardown(self) -> None:
        while self.untold:
            self.event_arrives()
        self.time_passes_and_late_reservations_are_looked_up(100)
        self.engine.replace_nodes(NODES)
        assert self.engine.ledger.over_committed() == []
        facts = {uid: charge for uid, pod in self.api.items() if (charge := charge_of(pod)) is not None}
        assert dict(self.engine.ledger.charges()) == facts
        running = {uid: (pod.node, pod.host) for uid, pod in self.api.items() if pod.node and not pod.ended}
        assert dict(self.engine.ledger.occupants()) == running
        assert not [p for p in self.engine.promises().values() if p.kind is Promise.RESERVATION]


EngineHistory.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestEngine = EngineHistory.TestCase
