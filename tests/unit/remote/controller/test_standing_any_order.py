"""As ``test_any_order``, of a standing lease: pods come to use it and leave it, its users stop and start it."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.assignment import Share
from tessera.model.gpu_leases import NOWHERE, Attach, GpuLease, Phase, Size, Slice
from tessera.model.gpu_leases import Client as Owner
from tessera.remote.controller.records import Client, Record
from tests.unit.remote.controller.test_any_order import MOST, STEPS, World

EVENTS = (
    "use", "use", "bind", "end", "leave", "stop", "start", "attach", "kill", "delete", "vanish", "impostor", "forget",
    "remove", "target", "target", "withdraw", "refuse", "overdue", *(*STEPS, "scheduler") * 2, *["rest"] * 6,
)  # fmt: skip


def made() -> Record:
    lease = GpuLease(
        "default", "mine", "lease-uid", None, NOWHERE.node, NOWHERE.share, standing=True, wanted=Size(1, 0)
    )
    return Record(lease, "7", held=False)


@dataclass
class Standing(World):
    """``users``: by the executors' UIDs, the pods that its gate has let in."""

    record: Record | None = field(default_factory=made)
    client: Client = Client.NONE
    users: dict[str, set[str]] = field(default_factory=dict)
    pods_made: int = 0

    def rest(self) -> None:
        """Until nothing is left to do."""
        for _ in range(MOST):
            done = [self.happen(step) for step in (*STEPS, "scheduler")]
            if not any(done):
                return
        raise AssertionError(f"no rest: {self}")

    def _rest(self) -> None:
        self.rest()

    def _scheduler(self) -> None:
        """Finds room where there is none."""
        lease = self.record.known if self.record else None
        if lease and not (lease.placed or lease.target or lease.stopped or lease.deleting):
            self._target()

    def _use(self) -> None:
        """The binder writes the client; the Binding is to come."""
        lease = self.record.known if self.record else None
        if self.record and lease and lease.free:
            self.pods_made += 1
            owner = Owner(f"pod-{self.pods_made}", f"pod-uid-{self.pods_made}", "main", "cpu")
            self.record = replace(self.record, known=replace(lease, client=owner), attach=None)
            self.client = Client.UNBOUND

    def _bind(self) -> None:
        if self.client is Client.UNBOUND:
            self.client = Client.BOUND

    def _end(self) -> None:
        if self.client is not Client.NONE:
            self.client = Client.GONE

    def _leave(self) -> None:
        """By its users' word."""
        if self.record:
            self._parted(self.record)

    def _stop(self) -> None:
        if self.record and self.record.known.client is None:
            self.record = replace(self.record, known=replace(self.record.known, stopped=True))

    def _start(self) -> None:
        if self.record:
            self.record = replace(self.record, known=replace(self.record.known, stopped=False))

    def _attach(self) -> None:
        if self.record and self.client is Client.BOUND:
            self.starts += 1
            self.record = replace(self.record, attach=Attach(f"slot-{self.starts}"))

    def _gate(self) -> None:
        super()._gate()
        record = self.record
        for pod in self.pods.values():
            runs = pod.endpoint and not pod.fault
            if runs and record and record.client == record.status.client != "" and self._state(pod).serving:
                self.users.setdefault(pod.uid, set()).add(record.client)
                assert len(self.users[pod.uid]) == 1, "an executor is its client's for good"

    def _parted(self, found: Record) -> None:
        self.record = replace(found, known=replace(found.known, client=None), attach=None)
        self.client = Client.NONE

    def _emptied(self, found: Record) -> None:
        assert found.known.stopped and not self.pods, "room is given back once nothing holds it"
        lease = replace(found.known, node=NOWHERE.node, share=NOWHERE.share, target=None)
        self.record = replace(found, known=lease)

    def _target(self) -> None:
        if self.record and not self.record.status.next and not self.record.known.stopped:
            self.targets += 1
            target = Slice(f"node-{self.targets}", Share(f"GPU-{self.targets}", 1))
            self.record = replace(self.record, known=replace(self.record.known, target=target))

    def _remove(self) -> None:
        """One without the finalizer goes at once."""
        if self.record and not self.record.held:
            assert not self.pods, "executors are made of a lease that waits for their end"
            self.record = None
        else:
            super()._remove()


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
@settings(max_examples=2000, deadline=None)
def test_it_comes_to_rest_where_it_belongs(events: list[str]) -> None:
    world = Standing()
    for event in events:
        world.happen(event)
    world.happen("bind")
    world.rest()
    if world.record is None or world.record.known.deleting:
        assert world.record is None and not world.pods, "nothing is left"
        return
    lease, status = world.record.known, world.record.status
    assert (lease.client is None) == (world.client is Client.NONE), "whose pod is gone has no client"
    if lease.stopped:
        assert status.phase is Phase.STOPPED and not world.pods and not lease.placed and lease.target is None
        return
    wanted = Phase.DETACHED if lease.client is None else Phase.ACTIVE if world.record.attach else Phase.READY
    assert status.phase is wanted and status.attached == world.record.attach
    assert status.client == lease.pod_uid and [status.executor] == list(world.pods)
    (pod,) = world.pods.values()
    assert pod.node == lease.node and pod.uid not in world.left and lease.target is None and not status.next
    assert world.users.get(pod.uid, set()) <= {lease.pod_uid}
