"""Whatever happens in whatever order, steps alone bring a lease to where it belongs, and nothing unsafe lies between.

A model of the API server in memory carries the controller's steps out, while the kubelet, the gate and others act in
between. A step that is lost, or done without an answer, is the same to a core that sees objects only.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.gpu_leases import Attach, Phase
from tessera.remote.controller.records import SERVING, Client, Executor, Record, Served, Status
from tessera.remote.controller.steps import Create, Delete, Drop, Free, Wait, Write, next_step
from tests.unit.remote.controller.test_steps import record

STEPS = ("controller", "kubelet", "gate")
EVENTS = ("attach", "kill", "delete", "vanish", "impostor", "gone", "forget", "remove", *STEPS * 4)
MOST = 90
"""Steps after the last event until nothing is left to do."""


@dataclass
class World:
    """One lease and its executors, as stored; ``served`` is the controller's own memory of what gates said."""

    record: Record | None = field(default_factory=record)
    pods: dict[str, Executor] = field(default_factory=dict)
    client: Client = Client.BOUND
    served: Served | None = None
    known: set[str] = field(default_factory=set)
    uids: int = 0
    starts: int = 0

    def happen(self, event: str) -> bool:
        """Whether anything was done."""
        before = self.record, dict(self.pods), self.served
        getattr(self, f"_{event}")()
        return before != (self.record, self.pods, self.served)

    def _controller(self) -> None:
        if self.record is None:
            return
        match next_step(self.record, list(self.pods.values()), self.client, self.served):
            case Write(status):
                self._written(self.record.status, status)
                self.record = replace(self.record, status=status)
            case Create(name, _):
                assert self.client is Client.BOUND and not self.record.known.deleting
                assert not self.pods, "the lease's room is held by one executor at a time"
                assert name not in self.known, "an executor that was seen is never made again"
                self._made(name)
            case Delete(executor):
                assert self.pods[executor.name] == executor
                self.pods[executor.name] = replace(executor, deleting=True)
            case Drop():
                self.record = replace(self.record, known=replace(self.record.known, deleting=True))
            case Free():
                assert not self.pods, "the lease, which holds the room, outlives its executors"
                self.record = None
            case Wait():
                pass

    def _written(self, before: Status, after: Status) -> None:
        assert after.epoch >= before.epoch and before.phase is not Phase.RELEASED
        changed = (before.executor or after.executor) != after.executor or before.attached != after.attached
        assert after.epoch > before.epoch or not after.executor or not changed, "each start and executor has its epoch"
        if after.executor_uid:
            self.known.add(after.executor)
        if after.phase in SERVING:
            found = self.pods[after.executor]
            assert self.served == Served(found.uid, after.epoch), "its gate has said that it serves this epoch"
            assert (found.uid, found.deleting, found.fault) == (after.executor_uid, False, "")
            assert [pod for pod in self.pods.values() if not pod.deleting] == [found]

    def _kubelet(self) -> None:
        """Ends what is to go, one at a time, else starts what is new."""
        for name, pod in self.pods.items():
            if pod.deleting:
                del self.pods[name]
                return
        self.pods = {name: replace(pod, endpoint="10.0.0.1:7443") for name, pod in self.pods.items()}

    def _gate(self) -> None:
        """That of the lease's executor follows."""
        if self.record and (pod := self.pods.get(self.record.status.executor)) and pod.endpoint and not pod.fault:
            self.served = Served(pod.uid, self.record.status.epoch)

    def _attach(self) -> None:
        if self.record:
            self.starts += 1
            self.record = replace(self.record, attach=Attach(f"slot-{self.starts}"))

    def _kill(self) -> None:
        for name, pod in self.pods.items():
            self.pods[name] = replace(pod, fault="killed")

    def _delete(self) -> None:
        for name, pod in self.pods.items():
            self.pods[name] = replace(pod, deleting=True)

    def _vanish(self) -> None:
        self.pods.clear()

    def _impostor(self) -> None:
        """The executor was deleted, and somebody has made another pod of its name."""
        for name in list(self.pods):
            del self.pods[name]
            self._made(name)

    def _gone(self) -> None:
        self.client = Client.GONE

    def _forget(self) -> None:
        """Another controller leads."""
        self.served = None

    def _remove(self) -> None:
        if self.record:
            self.record = replace(self.record, known=replace(self.record.known, deleting=True))

    def _made(self, name: str) -> None:
        self.uids += 1
        self.pods[name] = Executor(name, f"uid-{self.uids}", "lease-uid")


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
@settings(max_examples=1500, deadline=None)
def test_it_comes_to_rest_where_it_belongs(events: list[str]) -> None:
    world = World()
    for event in events:
        world.happen(event)
    for _ in range(MOST):
        done = [world.happen(step) for step in STEPS]
        if not any(done):
            break
    else:
        raise AssertionError(f"no rest: {world}")
    if world.client is Client.GONE or world.record is None or world.record.known.deleting:
        assert world.record is None and not world.pods, "nothing is left"
        return
    status = world.record.status
    assert status.phase is (Phase.ACTIVE if world.record.attach else Phase.READY)
    assert status.attached == world.record.attach and [status.executor] == list(world.pods)
