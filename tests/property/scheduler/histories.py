"""What random histories of pods have in common: pods are shown, pushed out by others, and end."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tessera.kube.reflector import Deleted
from tessera.model.assignment import Assignment
from tessera.model.pods import Pod
from tests.unit.scheduler.preemptions import Full


class PodsHistory(RuleBasedStateMachine):
    """``pods``: those that are there, by UID; ``full``: the scheduler that has been shown them."""

    pods: dict[str, Pod]
    full: Full

    def bind(self, asked: Pod, on: str, given: Assignment) -> None:
        """The Binding of a pod that was reserved is answered."""
        raise NotImplementedError

    def show(self, shown: Pod) -> None:
        self.pods[shown.uid] = shown
        self.full.show(shown)

    def remove(self, uid: str) -> None:
        gone = self.pods.pop(uid)
        self.full.pods.pop(gone.name, None)
        self.full.engine.forget_pod(uid)
        change = Deleted(gone)
        self.full.holders.observe(change)
        self.full.nominations.observe(change)

    def waiting(self) -> list[Pod]:
        return [each for _, each in sorted(self.pods.items()) if not each.node]

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def a_pod_pushes_others_out(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.waiting()))
        plan = self.full.plan(asked)
        if plan is None:
            return
        self.full.nominations.take_over(asked, plan.room, 60)
        for victim in plan.victims:
            self.remove(victim.uid)
        engine = self.full.engine
        assert engine.filter(asked, [plan.node]).nodes == [plan.node]
        reserved = engine.reserve(asked.uid, plan.node)
        assert isinstance(reserved, tuple), reserved
        self.bind(asked, plan.node, reserved[1])

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def pod_ends(self, data: st.DataObject) -> None:
        self.remove(data.draw(st.sampled_from(sorted(self.pods))))
