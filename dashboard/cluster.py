"""Follows the cluster's objects and turns them into snapshots.

Only pods that concern the pool are kept. Snapshots are built off the event loop and no more often than a fraction of
the time allows, so that a busy cluster costs a bounded share of one core.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from tessera.dashboard.facts import Cause, PodFacts
from tessera.dashboard.feed import Feed
from tessera.dashboard.holdings import Holding, holding_of
from tessera.dashboard.snapshot import build
from tessera.dashboard.states import LeaseRoom, LeaseSize, LeaseState, Snapshot
from tessera.kube import wire
from tessera.kube.convert import pod_of, told_gpu_node_of
from tessera.kube.reflector import Change, Replaced, Upserted
from tessera.model.gpu_leases import Phase
from tessera.model.gpus import GpuNode
from tessera.reasons import Code

MIN_PAUSE_S = 0.2
SHARE_OF_TIME = 4


class Cluster:
    """The latest objects, one sink for each collection."""

    def __init__(self) -> None:
        self._nodes: dict[str, GpuNode] = {}
        self._facts: dict[str, PodFacts] = {}
        self._holdings: dict[str, Holding] = {}
        self._by_uid: dict[str, str] = {}
        self._no_room: dict[str, tuple[str, str]] = {}
        self._leases: dict[str, LeaseState] | None = None
        self._dirty = asyncio.Event()

    def take_node(self, change: Change[wire.GpuNode]) -> None:
        if isinstance(change, Replaced):
            self._nodes = {node.metadata.name: told_gpu_node_of(node) for node in change.objects}
        elif isinstance(change, Upserted):
            self._nodes[change.object.metadata.name] = told_gpu_node_of(change.object)
        else:
            self._nodes.pop(change.object.metadata.name, None)
        self._dirty.set()

    def take_lease(self, change: Change[wire.GpuLease]) -> None:
        """Until the first list nothing is said of leases, not even that there are none."""
        if isinstance(change, Replaced):
            self._leases = {state.key: state for state in map(lease_state_of, change.objects)}
        elif self._leases is not None:
            state = lease_state_of(change.object)
            if isinstance(change, Upserted):
                self._leases[state.key] = state
            else:
                self._leases.pop(state.key, None)
        self._dirty.set()

    def take_pod(self, change: Change[wire.Pod]) -> None:
        if isinstance(change, Replaced):
            for key in list(self._facts):
                self._forget(key)
            for pod in change.objects:
                self._keep(facts_of(pod))
        elif isinstance(change, Upserted):
            self._keep(facts_of(change.object))
        else:
            self._forget(f"{change.object.metadata.namespace}/{change.object.metadata.name}")
        self._dirty.set()

    def take_event(self, change: Change[wire.Event]) -> None:
        """Keeps the latest ``NoRoom`` of each pod, by the pod's uid."""
        if isinstance(change, Replaced):
            stale = list(self._no_room)
            self._no_room = {e.involved_object.uid: _word(e) for e in sorted(change.objects, key=_when)}
            self._renew(*stale, *self._no_room)
            return
        uid = change.object.involved_object.uid
        if isinstance(change, Upserted):
            self._no_room[uid] = _word(change.object)
        elif self._no_room.get(uid, ("", ""))[0] == change.object.metadata.name:
            del self._no_room[uid]
        self._renew(uid)

    def snapshot(self) -> Snapshot:
        """What the dashboard shows of all objects now."""
        return self._all()()

    @property
    def pooled(self) -> bool:
        """Whether pods may have slices on other nodes."""
        return any(node.client_slots for node in self._nodes.values())

    def _all(self) -> Callable[[], Snapshot]:
        """What there is now, to be built in another thread."""
        nodes, holdings = list(self._nodes.values()), list(self._holdings.values())
        leases = None if self._leases is None else list(self._leases.values())
        return lambda: build(nodes, holdings, leases)

    def _keep(self, facts: PodFacts) -> None:
        key, uid = facts.pod.key, facts.pod.uid
        facts = with_no_room(facts, self._no_room.get(uid, ("", ""))[1])
        holding = holding_of(facts)
        if holding is None:
            self._forget(key)
            return
        self._facts[key], self._holdings[key], self._by_uid[uid] = facts, holding, key

    def _forget(self, key: str) -> None:
        if facts := self._facts.pop(key, None):
            del self._holdings[key]
            self._by_uid.pop(facts.pod.uid, None)

    def _renew(self, *uids: str) -> None:
        """Reads the pods again whose ``NoRoom`` may have changed."""
        for uid in uids:
            if key := self._by_uid.get(uid):
                self._keep(self._facts[key])
        self._dirty.set()

    async def publish_to(self, feed: Feed) -> None:
        """Publishes a snapshot after each change, for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            began = time.monotonic()
            feed.publish(await asyncio.to_thread(self._all()))
            await asyncio.sleep(max(MIN_PAUSE_S, SHARE_OF_TIME * (time.monotonic() - began)))


def facts_of(pod: wire.Pod) -> PodFacts:
    """What the dashboard reads of a pod."""
    status = pod.status
    return PodFacts(
        pod=pod_of(pod),
        created=pod.metadata.creation_timestamp or "",
        gated=bool(pod.spec.scheduling_gates),
        unscheduled=_unscheduled(status),
        status=Cause(status.reason, status.message),
        container=_container(status),
    )


def lease_state_of(lease: wire.GpuLease) -> LeaseState:
    """What the dashboard shows of a lease."""
    meta, spec, status = lease.metadata, lease.spec, lease.status
    client, kept = spec.client or wire.LeaseClient(), spec.slice or wire.LeaseSlice()
    target, wanted = lease.spec.target, lease.spec.wanted
    return LeaseState(
        namespace=meta.namespace, name=meta.name, uid=meta.uid, pod=client.pod, pod_uid=client.pod_uid,
        container=client.container, client_node=client.node, node=kept.node, uuid=kept.gpu_uuid,
        mem_bytes=kept.memory_bytes, core_percent=kept.core_percent,
        phase=status.phase or (Phase.RESERVED if spec.slice else Phase.PENDING),
        epoch=status.epoch, endpoint=status.endpoint,
        executor=_executor(status.executor), message=status.message,
        created=meta.creation_timestamp or "", ending=meta.deletion_timestamp is not None,
        target=LeaseRoom(target.node, target.gpu_uuid, target.memory_bytes, target.core_percent) if target else None,
        wanted=LeaseSize(wanted.memory_bytes, wanted.core_percent) if wanted else None, unmoved=status.unmoved,
        next=_executor(status.next), standing=spec.standing, stopped=spec.stopped,
    )  # fmt: skip


def _executor(found: wire.LeaseExecutor | None) -> str:
    return f"{found.namespace}/{found.name}" if found and found.name else ""


def with_no_room(facts: PodFacts, message: str) -> PodFacts:
    """``facts`` with the message of the pod's latest ``NoRoom`` event."""
    if message == facts.no_room:
        return facts
    return replace(facts, no_room=message)


def newest_no_room(events: list[wire.Event]) -> dict[str, str]:
    """The message of the latest ``NoRoom`` event by pod uid."""
    ours = sorted((e for e in events if e.reason == Code.NO_ROOM), key=_when)
    return {e.involved_object.uid: e.message for e in ours}


def _unscheduled(status: wire.PodStatus) -> Cause:
    for condition in status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return Cause(condition.reason or "", condition.message or "")
    return Cause()


def _container(status: wire.PodStatus) -> Cause:
    for container in [*status.init_container_statuses, *status.container_statuses]:
        waiting, ended = container.state.waiting, container.state.terminated
        if waiting and waiting.reason:
            return Cause(waiting.reason, waiting.message)
        if ended and ended.exit_code:
            return Cause(ended.reason or "Error", ended.message or f"{container.name} ended with {ended.exit_code}")
    return Cause()


def _word(event: wire.Event) -> tuple[str, str]:
    return event.metadata.name, event.message


def _when(event: wire.Event) -> str:
    return event.last_timestamp or event.first_timestamp or event.metadata.creation_timestamp or ""
