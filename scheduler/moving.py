"""Carries out one move: an eviction, and then the wait until the pod's successor has found its place.

The Eviction API honours disruption budgets; where one says no, that is said and tried again until the time is over.
Nothing is ever deleted past it. A move is over only when the pod
has ended and its successor, a newer pod of the same controller, is bound.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tessera.kube.errors import ApiError, KubeError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.stored import stored
from tessera.model.pods import Pod
from tessera.scheduler.residents import RESIDENTS, Resident, resident_of

Wanted = Callable[[], Awaitable[bool]]
"""Asked all the while: whether the room is wanted still."""
RETRY_S = 2.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Moved:
    """How a move ended. ``evicted``: the pod is gone; ``node``: where its successor is; ``reason``: why it stopped."""

    evicted: bool
    node: str = ""
    reason: str = ""


class Mover:
    """Moves one pod at a time. ``tell`` hears what happens on the way, a sentence each."""

    def __init__(
        self,
        gateway: Gateway,
        timeout_s: float,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gateway, self._timeout_s, self._tell = gateway, timeout_s, tell
        self._clock, self._sleep = clock, sleep

    async def move(self, resident: Resident, wanted: Wanted) -> Moved:
        """Evicts the pod, if that is ``wanted`` still, and waits for its successor."""
        pod, deadline = resident.pod, self._clock() + self._timeout_s
        before = {each.uid for each in await self._siblings(resident)}
        if reason := await self._evict(pod, deadline, wanted):
            return Moved(False, reason=reason)
        self._tell(f"pod {pod.key} is evicted from {pod.node}")
        while True:
            try:
                node, reason = await self._settled(resident, before, wanted)
            except KubeError as error:
                node, reason = "", str(error)
            if node:
                return Moved(True, node)
            if self._clock() >= deadline:
                return Moved(True, reason=f"pod {pod.key} was evicted, and then in time: {reason}")
            await self._sleep(POLL_S)

    async def _settled(self, resident: Resident, before: set[str], wanted: Wanted) -> tuple[str, str]:
        """The successor's node once the move is over, or what is missing."""
        await wanted()
        new = [each for each in await self._siblings(resident) if each.uid not in before]
        bound = next((each for each in new if each.node), None)
        if bound is None:
            made = f"its successor {new[0].key} found no node" if new else f"{resident.owner} made no successor"
            return "", made
        if not await self._ended(resident.pod):
            return "", "it has not ended"
        self._tell(f"pod {bound.key}, its successor, is bound to {bound.node}")
        return bound.node, ""

    async def _evict(self, pod: Pod, deadline: float, wanted: Wanted) -> str:
        """Empty once the pod is being deleted, else why not."""
        told = ""
        while True:
            if not await wanted():
                return f"pod {pod.key} need not be moved any more"
            reason = await self._try(pod)
            if not reason:
                return ""
            if reason != told:
                self._tell(f"pod {pod.key} may not be evicted yet: {reason}")
                told = reason
            if self._clock() + RETRY_S > deadline:
                return f"pod {pod.key} was not evicted: {reason}"
            await self._sleep(RETRY_S)

    async def _try(self, pod: Pod) -> str:
        """One request; a refusal that no patience mends is raised."""
        try:
            await self._gateway.evict(pod.namespace, pod.name, uid=pod.uid)
        except ApiError as error:
            if error.not_found or error.conflict:
                return ""  # it is gone, by whomever, and so is what it held
            if not error.too_many_requests:
                raise
            return " ".join(error.causes) or error.message
        except (UnknownOutcome, Unreachable) as error:
            return "" if await self._gone(pod) else str(error)
        return ""

    async def _gone(self, pod: Pod) -> bool:
        found = await stored(self._gateway, pod)
        return found is None or found.deleting

    async def _ended(self, pod: Pod) -> bool:
        """Whether it holds no room any more."""
        found = await stored(self._gateway, pod)
        return found is None or found.ended

    async def _siblings(self, resident: Resident) -> list[Pod]:
        """The living pods of the same controller."""
        pods = await self._gateway.list(RESIDENTS, namespace=resident.pod.namespace)
        mine = [each.pod for each in map(resident_of, pods) if each.owner_uid == resident.owner_uid]
        return [pod for pod in mine if not pod.deleting and not pod.ended]
