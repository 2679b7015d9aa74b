"""Whatever happens to pods and to the controller in between, steps alone bring a lease to where it belongs.

A model of the API server in memory carries steps out. Each may be lost before it, or done without an answer: both are
the same to a core that sees objects only, and both are tried.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.gpu_leases import Phase
from tessera.remote.controller.records import SERVING, Attach, Client, Executor, Record, Served
from tessera.remote.controller.steps import Create, Delete, Drop, Free, Wait, Write, next_step
from tests.unit.remote.controller.test_steps import record

EVENTS = ("attach", "kill", "vanish", "gone", "forget", "remove", "step", "step", "step")
MOST = 60
"""Steps after the last event until nothing is left to do."""


@dataclass
class World:
    """One lease and its executors, as stored; ``served`` is the controller's own memory."""

    record: Record | None = field(default_factory=record)
    pods: dict[str, Executor] = field(default_factory=dict)
    client: Client = Client.BOUND
    served: Served | None = None
    made: int = 0
    starts: int = 0
    epochs: list[int] = field(default_factory=list)

    def step(self) -> bool:
        """One step of the controller and one of everybody else; whether anything was done."""
        return self._controller() | self._others()

    def _controller(self) -> bool:
        if self.record is None:
            return False
        match next_step(self.record, list(self.pods.values()), self.client, self.served):
            case Write(status):
                assert status.epoch >= self.record.status.epoch, "an epoch never falls"
                if status.phase in SERVING:
                    self._serving(status.executor, status.epoch)
                self.record = replace(self.record, status=status)
            case Create(name, _):
                assert self.client is Client.BOUND
                self.made += 1
                self.pods.setdefault(name, Executor(name, f"uid-{self.made}", "lease-uid"))
            case Delete(executor):
                if (found := self.pods.get(executor.name)) and found.uid == executor.uid:
                    self.pods[executor.name] = replace(found, deleting=True)
            case Drop():
                self.record = replace(self.record, known=replace(self.record.known, deleting=True))
            case Free():
                assert not self.pods, "the finalizer outlives the executors"
                self.record = None
            case Wait():
                return False
        return True

    def _serving(self, name: str, epoch: int) -> None:
        """One executor serves, alone, and has said that it is in this epoch."""
        found = self.pods[name]
        assert not found.deleting and not found.fault and self.served == Served(found.uid, epoch)
        assert [pod for pod in self.pods.values() if not pod.deleting] == [found]
        self.epochs.append(epoch)

    def _others(self) -> bool:
        """The kubelet starts and ends, the gate says what it serves."""
        before = dict(self.pods)
        self.pods = {
            name: replace(pod, endpoint="10.0.0.1:7443") for name, pod in self.pods.items() if not pod.deleting
        }
        said = self.served
        if self.record and (pod := self.pods.get(self.record.status.executor)) and not pod.fault:
            self.served = Served(pod.uid, self.record.status.epoch)
        return self.pods != before or self.served != said

    def happen(self, event: str) -> None:
        live = [name for name, pod in self.pods.items() if not pod.deleting]
        match event:
            case "attach" if self.record:
                self.starts += 1
                self.record = replace(self.record, attach=Attach(f"slot-{self.starts}"))
            case "kill" if live:
                self.pods[live[0]] = replace(self.pods[live[0]], fault="killed")
            case "vanish" if live:
                del self.pods[live[0]]
            case "gone":
                self.client = Client.GONE
            case "forget":
                self.served = None
            case "remove" if self.record:
                self.record = replace(self.record, known=replace(self.record.known, deleting=True))
            case "step":
                self.step()


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
@settings(max_examples=400, deadline=None)
def test_it_comes_to_rest_where_it_belongs(events: list[str]) -> None:
    world = World()
    for event in events:
        world.happen(event)
    for _ in range(MOST):
        if not world.step():
            break
    else:
        raise AssertionError(f"no rest: {world}")
    assert world.epochs == sorted(world.epochs)
    if world.client is Client.GONE or "remove" in events:
        assert world.record is None and not world.pods, "nothing is left"
        return
    assert world.record is not None
    status = world.record.status
    assert status.phase is (Phase.ACTIVE if world.record.attach else Phase.READY)
    assert status.attached == world.record.attach and [status.executor] == list(world.pods)
