"""Follows the cluster's objects and turns them into snapshots.

Only pods that concern the pool are kept. Snapshots are built off the event loop and no more often than a fraction of
the time allows, so that a busy cluster costs a bounded share of one core.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tessera.dashboard.facts import Cause, PodFacts
from tessera.dashboard.feed import Feed
from tessera.dashboard.snapshot import build, concerns
from tessera.kube import wire
from tessera.kube.convert import gpu_node_of, pod_of
from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.model.gpus import GpuNode
from tessera.reasons import Code

MIN_PAUSE_S = 0.2
SHARE_OF_TIME = 4

T = TypeVar("T")


class Cluster:
    """The latest objects, one sink for each collection."""

    def __init__(self) -> None:
        self._nodes: dict[str, GpuNode] = {}
        self._pods: dict[str, PodFacts] = {}
        self._no_room: dict[str, tuple[str, str]] = {}
        self._dirty = asyncio.Event()

    def take_node(self, change: Change[wire.GpuNode]) -> None:
        _take(self._nodes, change, lambda node: node.metadata.name, gpu_node_of)
        self._dirty.set()

    def take_pod(self, change: Change[wire.Pod]) -> None:
        _take(self._pods, change, _key, _facts_if_ours)
        self._dirty.set()

    def take_event(self, change: Change[wire.Event]) -> None:
        """Keeps the latest ``NoRoom`` of each pod, by the pod's uid."""
        if isinstance(change, Replaced):
            self._no_room = {e.involved_object.uid: _word(e) for e in sorted(change.objects, key=_when)}
        elif isinstance(change, Upserted):
            self._no_room[change.object.involved_object.uid] = _word(change.object)
        elif self._no_room.get(change.object.involved_object.uid, ("", ""))[0] == change.object.metadata.name:
            del self._no_room[change.object.involved_object.uid]
        self._dirty.set()

    def facts(self) -> list[PodFacts]:
        """All pods that concern the pool, with their ``NoRoom`` messages."""
        return [with_no_room(f, self._no_room.get(f.pod.uid, ("", ""))[1]) for f in self._pods.values()]

    async def publish_to(self, feed: Feed) -> None:
        """Publishes a snapshot after each change, for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            began = time.monotonic()
            feed.publish(await asyncio.to_thread(build, list(self._nodes.values()), self.facts()))
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


def with_no_room(facts: PodFacts, message: str) -> PodFacts:
    """``facts`` with the message of the pod's latest ``NoRoom`` event."""
    if message == facts.no_room:
        return facts
    return PodFacts(facts.pod, facts.created, facts.gated, facts.unscheduled, message, facts.status, facts.container)


def newest_no_room(events: list[wire.Event]) -> dict[str, str]:
    """The message of the latest ``NoRoom`` event by pod uid."""
    ours = sorted((e for e in events if e.reason == Code.NO_ROOM), key=_when)
    return {e.involved_object.uid: e.message for e in ours}


def _facts_if_ours(pod: wire.Pod) -> PodFacts | None:
    facts = facts_of(pod)
    return facts if concerns(facts) else None


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


def _key(pod: wire.Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _word(event: wire.Event) -> tuple[str, str]:
    return event.metadata.name, event.message


def _when(event: wire.Event) -> str:
    return event.last_timestamp or event.first_timestamp or event.metadata.creation_timestamp or ""


W = TypeVar("W")


def _take(kept: dict[str, T], change: Change[W], key: Callable[[W], str], read: Callable[[W], T | None]) -> None:
    """Applies one change to ``kept``; an object that ``read`` answers ``None`` for is not kept."""
    if isinstance(change, Replaced):
        kept.clear()
        for obj in change.objects:
            if (value := read(obj)) is not None:
                kept[key(obj)] = value
    elif isinstance(change, Deleted):
        kept.pop(key(change.object), None)
    elif (value := read(change.object)) is not None:
        kept[key(change.object)] = value
    else:
        kept.pop(key(change.object), None)
