"""Asks pods to leave for others: the words and the writes of a preemption, each only while the lease surely lasts.

A victim carries its condition DisruptionTarget before it is deleted, so that a new leader knows of it. Kubernetes'
disruption controller takes the word back two minutes after its ``lastTransitionTime``, without one at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from tessera.kube.convert import named_pod
from tessera.kube.errors import ApiError
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease, utc_now
from tessera.kube.resources import PODS
from tessera.model.pods import Pod
from tessera.scheduler.holders import Holder

_WRITE_S = 2.0
"""How long a write may take; the lease must last longer."""
_LATELY_S = 5.0
"""How long the API server's budgets may not count a victim yet."""


class Dismissals:
    """Raises ``KubeError`` or ``TimeoutError`` where a write was not carried out, as far as is known."""

    def __init__(
        self,
        gateway: Gateway,
        lease: LeaderLease,
        recorder: EventRecorder,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._gateway, self._lease, self._recorder, self._clock, self._now = gateway, lease, recorder, clock, now
        self._lately: deque[tuple[float, Holder]] = deque(maxlen=1024)

    def lately(self) -> list[Holder]:
        """Those that were deleted just now, whom budgets may not count yet."""
        now = self._clock()
        return [holder for at, holder in self._lately if at + _LATELY_S > now]

    async def nominate(self, pod: Pod, node: str) -> None:
        """Says that room on ``node`` is being made for ``pod``."""
        await self._patch(pod.namespace, pod.name, pod.uid, {"nominatedNodeName": node})

    async def tell(self, victim: Holder, message: str) -> None:
        """Writes the condition; one that is gone need not be told."""
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                     "message": message, "lastTransitionTime": self._now().strftime("%Y-%m-%dT%H:%M:%SZ")}  # fmt: skip
        try:
            await self._patch(victim.namespace, victim.name, victim.uid, {"conditions": [condition]})
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def delete(self, victim: Holder, why: str) -> None:
        """With the pod's own grace period, and an event; nothing if that very pod is gone."""
        self._check_lease()
        async with asyncio.timeout(_WRITE_S):
            if not await self._gateway.remove(PODS, victim.name, namespace=victim.namespace, uid=victim.uid):
                return
        self._lately.append((self._clock(), victim))
        about = named_pod(victim.namespace, victim.name, victim.uid)
        self._recorder.record(about, "Normal", "Preempted", why)

    async def _patch(self, namespace: str, name: str, uid: str, status: Mapping[str, object]) -> None:
        self._check_lease()
        body = {"metadata": {"uid": uid}, "status": status}
        async with asyncio.timeout(_WRITE_S):
            await self._gateway.strategic_patch(PODS, name, body, namespace=namespace, subresource="status")

    def _check_lease(self) -> None:
        self._lease.require(_WRITE_S, "a victim could be asked to leave")
