"""The GPU clients of pods that are being stopped: told to let go before the kubelet kills them.

A client killed in the middle of its work may wedge the MPS server that it shares, and neither the runtime nor the
device-plugin API says beforehand that a container is about to be killed. The pod does: its ``deletionTimestamp`` is
when the kubelet kills it, the grace included. ``LEAD_S`` before that every client that still lives is ended in the
limiter's way. Kills without notice (grace 0, liveness, out of memory) are the limiter's to find, within a second.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from tessera.kube import wire
from tessera.kube.course import Change, Deleted, Replaced, Upserted
from tessera.node_agent.accounting import Usage
from tessera.node_agent.enforcement.port import Limiter
from tessera.node_agent.letting_go import let_go
from tessera.node_agent.processes import Process, Processes

log = structlog.get_logger()

LEAD_S = 1.5


class Deadlines:
    """A sink for a reflector of pods: when each pod that is being stopped is killed, in seconds since the epoch."""

    def __init__(self) -> None:
        self._killed_at: dict[str, float] = {}

    def __call__(self, change: Change[wire.Pod]) -> None:
        match change:
            case Replaced(pods):
                self._killed_at = {}
                for pod in pods:
                    self._note(pod)
            case Upserted(pod):
                self._note(pod)
            case Deleted(pod):
                self._killed_at.pop(pod.metadata.uid, None)

    def due(self, now: float) -> frozenset[str]:
        """UIDs of the pods whose clients have to let go now."""
        return frozenset(uid for uid, at in self._killed_at.items() if now >= at - LEAD_S)

    def _note(self, pod: wire.Pod) -> None:
        # A shorter grace moves the time; nothing takes it back.
        at = _seconds(pod.metadata.deletion_timestamp)
        if at is not None:
            self._killed_at[pod.metadata.uid] = at


class StopPath:
    """``usages`` answers the last reading; ``wall`` the time that the API server's clock shows, in seconds."""

    def __init__(
        self,
        deadlines: Deadlines,
        usages: Callable[[], Iterable[Usage]],
        processes: Processes,
        limiter: Limiter,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._deadlines, self._usages = deadlines, usages
        self._processes, self._limiter, self._wall = processes, limiter, wall
        self._told: set[tuple[str, Process]] = set()

    async def tick(self) -> None:
        """Ends the clients that are due, on each GPU, all together; one for whom there was no time is tried again."""
        usages, due = list(self._usages()), self._deadlines.due(self._wall())
        living = {(usage.gpu_uuid, client.process) for usage in usages for client in usage.clients}
        stopping = {
            (usage.gpu_uuid, client.process)
            for usage in usages
            if usage.container.pod_uid in due
            for client in usage.clients
        }
        self._told &= living
        answered = await let_go(self._limiter, self._processes, stopping - self._told)
        self._told |= answered.keys()
        for uuid, process in (client for client, ended in answered.items() if ended):
            log.info("client ended before its pod is killed", gpu=uuid, pid=process.pid)


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
