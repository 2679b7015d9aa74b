"""Trust domains over random histories: pods come, are bound, pushed out and end, labels change, schedulers restart.

Whatever the order: no GPU and no MPS group ever holds running slices of two domains, as counted here from the pods'
own annotations alone; and the ledger that lived through it equals one rebuilt from the API's objects.
"""

from collections import defaultdict
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tessera.model import names
from tessera.model.assignment import Assignment, decode
from tessera.model.domains import Namespace
from tessera.model.ledger import MIXED, Ledger
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.options import Options
from tests.property.scheduler.histories import PodsHistory
from tests.unit.scheduler.clusters import bound, node, pod
from tests.unit.scheduler.preemptions import Full

NODES = [node("a", 24, 24, 24), node("b", 24, 24, group="g"), node("c", 24)]
NAMES = [each.name for each in NODES]
GROUP = {gpu.uuid: gpu.mps_group or gpu.uuid for each in NODES for gpu in each.gpus}
NAMESPACES = ("one", "two", "three", "four")
ASKS = ("gpu-mem=4Gi", "gpu-mem=9Gi gpu-core=40", "gpu-mem=20Gi", "gpu=1", "gpu-mem=3Gi gpu-count=2", "gpu-core=50")


class DomainsHistory(PodsHistory):
    @initialize(
        setting=st.sampled_from(["namespace", "label:team"]), policy=st.sampled_from(["fragmentation", "spread"])
    )
    def start(self, setting: str, policy: str) -> None:
        self.options = Options(placement=policy, trust_domain=setting)
        self.teams = {"one": "x", "two": "x", "three": "y", "four": ""}
        self.pods: dict[str, Pod] = {}
        self.placed_as: dict[str, str] = {}
        self.count = 0
        self.full = self._scheduler()

    def _scheduler(self) -> Full:
        full = Full(*NODES, options=self.options)
        full.engine.replace_namespaces(Namespace(name, {"team": team}) for name, team in self.teams.items())
        for each in self.pods.values():
            full.show(each)
        return full

    def _domain_now(self, namespace: str) -> str:
        """The rule, once more and apart from the code that is tested."""
        team = self.teams.get(namespace) if self.options.trust_domain == "label:team" else ""
        return f"label/team={team}" if team else f"namespace/{namespace}"

    @rule(namespace=st.sampled_from(NAMESPACES), ask=st.sampled_from(ASKS), containers=st.integers(1, 2),
          priority=st.sampled_from([0, 5, 10]))  # fmt: skip
    def pod_is_created(self, namespace: str, ask: str, containers: int, priority: int) -> None:
        self.count += 1
        created = replace(pod(f"p{self.count}", *[ask] * containers, priority=priority), namespace=namespace)
        self.show(created)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), how=st.sampled_from(["bound", "bound", "refused", "held", "labels change in between"]))
    def kube_scheduler_tries_a_pod(self, data: st.DataObject, how: str) -> None:
        asked, engine = data.draw(st.sampled_from(self.waiting())), self.full.engine
        nodes = engine.filter(asked, NAMES).nodes
        if not nodes:
            return
        best = max(engine.prioritize(asked, nodes), key=lambda pair: pair[1])[0]
        if how == "labels change in between":
            self.a_label_changes(asked.namespace, data.draw(st.sampled_from(["x", "y", ""])))
        reserved = None if how == "held" else engine.reserve(asked.uid, best)
        if reserved is None or isinstance(reserved, Reason):
            return
        if how == "refused":
            engine.undo(asked.uid)
            return
        self.bind(asked, best, reserved[1])

    def bind(self, asked: Pod, on: str, given: Assignment) -> None:
        self.placed_as[asked.uid] = self._domain_now(asked.namespace)
        self.full.engine.confirm(asked.uid)
        self.show(bound(asked, on, given))

    def remove(self, uid: str) -> None:
        super().remove(uid)
        self.placed_as.pop(uid, None)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), on=st.sampled_from(NAMES))
    def room_is_kept_for_a_pod(self, data: st.DataObject, on: str) -> None:
        self.full.nominations.nominate(data.draw(st.sampled_from(self.waiting())), on, 20)

    @rule(namespace=st.sampled_from(NAMESPACES), team=st.sampled_from(["x", "y", "z", ""]))
    def a_label_changes(self, namespace: str, team: str) -> None:
        self.teams[namespace] = team
        self.full.engine.observe_namespace(Namespace(namespace, {"team": team}))

    @rule(seconds=st.sampled_from([5, 30, 70]))
    def time_passes(self, seconds: int) -> None:
        self.full.clock.now += seconds
        self.full.engine.expire()
        self.full.nominations.settle()

    @rule()
    def the_scheduler_restarts(self) -> None:
        self.full = self._scheduler()

    @invariant()
    def no_gpu_and_no_group_has_two_domains(self) -> None:
        found = defaultdict(set)
        for uid, each in self.pods.items():
            if each.node:
                for share in decode(each.annotations[names.ASSIGNMENT]).shares:
                    if not share.whole:
                        found[GROUP[share.uuid]].add(self.placed_as[uid])
        assert all(len(domains) == 1 for domains in found.values()), dict(found)

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        assert self.full.engine.ledger.over_committed() == []

    @invariant()
    def domains_have_numbers_as_long_as_somebody_is_there(self) -> None:
        ledger = self.full.engine.ledger
        now = {charge.domain: ledger.number_of(charge.domain) for charge in ledger.charges().values()}
        assert len(set(now.values())) == len(now) and all(number >= 1 for number in now.values())
        assert {*ledger.domain.ravel().tolist()} <= {0, MIXED, *now.values()}

    @invariant()
    def a_rebuild_tells_the_same_of_what_is_bound(self) -> None:
        rebuilt, lived = self._scheduler().engine.ledger, self.full.engine.ledger.copy()
        for uid in self.full.engine.promises():
            lived.release(uid)
        assert dict(rebuilt.charges()) == dict(lived.charges())
        for each in NODES:
            assert _domains(rebuilt, each.name) == _domains(lived, each.name)


def _domains(ledger: Ledger, name: str) -> list[list[bool]]:
    """Which GPUs of a node are open to each of the domains of the charged pods, and to another."""
    row = ledger.rows()[name]
    known = sorted({charge.domain for charge in ledger.charges().values()})
    return [ledger.open_to(domain, slice(row, row + 1))[0].tolist() for domain in (*known, "another")]


DomainsHistory.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestDomains = DomainsHistory.TestCase
