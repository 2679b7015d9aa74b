"""Whatever happens in whatever order, steps alone bring a lease to where it belongs, and nothing unsafe lies between.

A model of the API server in memory carries the controller's steps out, while the kubelet, the gates, the scheduler and
others act in between. A step that is lost, or done without an answer, is the same to a core that sees objects only.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.assignment import Share
from tessera.model.gpu_leases import SERVING, Attach, Phase, Slice
from tessera.remote.controller.deciding import Times, next_step
from tessera.remote.controller.handovers import state_of
from tessera.remote.controller.records import SILENT, Client, Executor, Heard, Record, Status
from tessera.remote.controller.steps import Create, Delete, Drop, Empty, Free, Hold, Part, Settle, Wait, Write
from tests.unit.remote.controller.test_steps import record

STEPS = ("controller", "kubelet", "gate", "carry")
EVENTS = (
    "attach", "kill", "delete", "vanish", "impostor", "gone", "forget", "remove", "target", "target", "withdraw",
    "refuse", "undecided", "overdue", *STEPS * 4,
)  # fmt: skip
MOST = 90
"""Steps after the last event until nothing is left to do."""


@dataclass
class World:
    """One lease and its executors, as stored; ``heard`` is the controller's own memory of what gates said.

    ``epochs``: which epoch each executor serves, by UID; ``left``: those whose sessions have gone, with what they say.
    """

    record: Record | None = field(default_factory=record)
    pods: dict[str, Executor] = field(default_factory=dict)
    client: Client = Client.BOUND
    heard: dict[str, Heard] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    left: dict[str, Heard] = field(default_factory=dict)
    refusals: dict[str, Heard] = field(default_factory=dict)
    overdue: bool = False
    uids: int = 0
    starts: int = 0
    targets: int = 0

    def happen(self, event: str) -> bool:
        """Whether anything was done."""
        before = self.record, dict(self.pods), dict(self.heard), dict(self.epochs), dict(self.left)
        getattr(self, f"_{event}")()
        return before != (self.record, self.pods, self.heard, self.epochs, self.left)

    def _controller(self) -> None:
        if self.record is None:
            return
        living = {pod.uid for pod in self.pods.values()}
        heard = {uid: said for uid, said in self.heard.items() if uid in living}
        match next_step(self.record, list(self.pods.values()), self.client, heard, Times(overdue=self.overdue)):
            case Write(status):
                self._written(self.record.status, status)
                self.record = replace(self.record, status=status)
            case Create(name, _, where, target):
                self._check(name, where, target)
                self._made(name, where.node)
            case Delete(executor):
                assert self.pods[executor.name] == executor
                self.pods[executor.name] = replace(executor, deleting=True)
            case Settle():
                self._settled(self.record)
            case Hold():
                self.record = replace(self.record, held=True)
            case Part():
                self._parted(self.record)
            case Empty():
                self._emptied(self.record)
            case Drop():
                self.record = replace(self.record, known=replace(self.record.known, deleting=True))
            case Free():
                assert not self.pods, "the lease, which holds the room, outlives its executors"
                self.record = None
            case Wait():
                pass

    def _parted(self, found: Record) -> None:
        raise AssertionError("a lease that was made for a pod keeps it")

    def _emptied(self, found: Record) -> None:
        raise AssertionError("a lease that was made for a pod keeps its room")

    def _check(self, name: str, where: Slice, target: bool) -> None:
        assert self.record and not self.record.known.deleting
        assert self.record.known.standing or self.client is Client.BOUND
        lease, status = self.record.known, self.record.status
        assert where == (lease.target if target else Slice(lease.node, lease.share)), "room that is kept for it"
        there = [pod for pod in self.pods.values() if pod.node == where.node]
        assert not there, "each of the lease's rooms is held by one executor at a time"
        assert target == (name == status.next) and name not in self.known, "one that was seen is never made again"

    def _settled(self, found: Record) -> None:
        lease, status = found.known, found.status
        assert lease.target, "there is something to settle"
        if status.executor:
            assert self.pods.get(status.executor) is None or self.pods[status.executor].node == lease.target.node
        self.record = replace(
            found, known=replace(lease, node=lease.target.node, share=lease.target.share, target=None)
        )

    def _written(self, before: Status, after: Status) -> None:
        assert after.epoch >= before.epoch and before.phase is not Phase.RELEASED
        changed = (before.executor or after.executor) != after.executor or before.attached != after.attached
        assert after.epoch > before.epoch or not after.executor or not changed, "each start and executor has its epoch"
        if after.executor_uid:
            self.known.add(after.executor)
        if after.phase in SERVING and (before.phase, before.executor) != (after.phase, after.executor):
            found = self.pods[after.executor]
            said = self.heard.get(found.uid, SILENT)
            stays = before.phase is Phase.MIGRATING and not after.moved
            assert stays or said.epoch == after.epoch, "its gate has said that it serves this epoch"
            assert not said.left, "its sessions are with it"
            assert (found.uid, found.deleting, found.fault) == (after.executor_uid, False, "")
            others = [pod for pod in self.pods.values() if not pod.deleting and pod is not found]
            assert all(pod.name in (before.executor, before.next) for pod in others)

    def _kubelet(self) -> None:
        """Ends what is to go, one at a time, else starts what is new."""
        for name, pod in self.pods.items():
            if pod.deleting:
                del self.pods[name]
                return
        self.pods = {name: replace(pod, endpoint="10.0.0.1:7443") for name, pod in self.pods.items()}

    def _gate(self) -> None:
        """Each that runs follows, and says what it has to say."""
        for pod in self.pods.values():
            if self.record and pod.endpoint and not pod.fault:
                state = self._state(pod)
                if state.serving and pod.uid not in self.left:
                    self.epochs[pod.uid] = max(state.epoch, self.epochs.get(pod.uid, 0))
                said = Heard(self.epochs.get(pod.uid, 0))
                if state.HasField("arrive"):
                    said = replace(said, about=state.arrive.epoch, ticket=f"of {pod.uid}")
                if refusal := self.left.get(pod.uid) or self.refusals.get(pod.uid):
                    said = replace(refusal, epoch=said.epoch)
                self.heard[pod.uid] = said

    def _carry(self) -> None:
        """The sessions are brought to who gave the ticket."""
        self._brought(Heard(left=True), arrives=True)

    def _undecided(self) -> None:
        """They have gone, and it is not known where to."""
        self._brought(Heard(refused="no answer", left=True), arrives=False)

    def _refuse(self) -> None:
        self._brought(Heard(refused="in use"), arrives=False)

    def _brought(self, said: Heard, *, arrives: bool) -> None:
        for pod in list(self.pods.values()):
            if not self.record or not pod.endpoint or pod.fault or pod.uid in self.left:
                continue
            order = self._state(pod).leave
            if not order.ticket or self.refusals.get(pod.uid, SILENT).ticket == order.ticket:
                continue
            said = replace(said, about=order.epoch, ticket=order.ticket)
            (self.left if said.left else self.refusals)[pod.uid] = said
            other = next((other for other in self.pods.values() if f"of {other.uid}" == order.ticket), None)
            if arrives and other is not None and not other.fault:
                self.epochs[other.uid] = order.epoch

    def _state(self, pod: Executor):  # type: ignore[no-untyped-def]
        assert self.record is not None
        coming = self.pods.get(self.record.status.next)
        return state_of(pod, self.record, coming, self.heard, 4)

    def _target(self) -> None:
        """The scheduler keeps another room, or another one still."""
        if self.record and not self.record.status.next:
            self.targets += 1
            target = Slice(f"node-{self.targets}", Share(f"GPU-{self.targets}", 1))
            self.record = replace(self.record, known=replace(self.record.known, target=target))

    def _withdraw(self) -> None:
        if self.record and not self.record.status.next:
            self.record = replace(self.record, known=replace(self.record.known, target=None))

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
        for name, pod in list(self.pods.items()):
            del self.pods[name]
            self._made(name, pod.node)

    def _gone(self) -> None:
        self.client = Client.GONE

    def _overdue(self) -> None:
        """What is to leave its slice should have done so long ago."""
        self.overdue = not self.overdue

    def _forget(self) -> None:
        """Another controller leads."""
        self.heard = {}

    def _remove(self) -> None:
        if self.record:
            self.record = replace(self.record, known=replace(self.record.known, deleting=True))

    def _made(self, name: str, node: str) -> None:
        self.uids += 1
        self.pods[name] = Executor(name, f"uid-{self.uids}", "lease-uid", node=node)


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
@settings(max_examples=2000, deadline=None)
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
    assert world.record.known.target is None and not status.next, "it is where it was to go"
    (pod,) = world.pods.values()
    assert pod.node == world.record.known.node and pod.uid not in world.left
