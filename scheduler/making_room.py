"""Lets a waiting pod in by a plan of moves, one move at a time, planned anew before each on the cluster as it then is.

The room that becomes free is nominated for the waiting pod (``status.nominatedNodeName``), so that Tessera's scheduler
keeps it for that pod (``nominations``). Whoever may not write that field moves pods without this guard, and is told.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tessera.kube.convert import pod_of
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import PODS
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.census import read
from tessera.scheduler.defragment import Late, Proposal, proposal
from tessera.scheduler.drain import Move
from tessera.scheduler.engine import Engine
from tessera.scheduler.moving import POLL_S, Mover, Wanted
from tessera.scheduler.options import Options
from tessera.scheduler.residents import Population


class End(StrEnum):
    """How it ended: ``BOUND`` the pod runs, ``NO_PLAN`` nothing was touched, ``STOPPED`` on the way, ``LOST`` all was
    moved, and the pod waits still."""

    BOUND = "bound"
    NO_PLAN = "no plan"
    STOPPED = "stopped"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``text`` is one sentence; ``moved`` are the moves that were made, with the node where each successor is."""

    end: End
    text: str
    node: str = ""
    moved: tuple[tuple[Move, str], ...] = field(default=())


class RoomMaker:
    """``options`` are the scheduler's own, so that plans place pods as it would."""

    def __init__(
        self,
        gateway: Gateway,
        timeout_s: float,
        tell: Callable[[str], None] = lambda _: None,
        options: Options | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gateway, self._timeout_s, self._tell, self._options = gateway, timeout_s, tell, options
        self._clock, self._sleep = clock, sleep
        self._may_nominate = True
        self._nominated: Pod | None = None
        self._moved: list[tuple[Move, str]] = []

    async def plan(self, namespace: str, name: str, at_most: int, search_s: float) -> Proposal | Reason:
        """The plan on the cluster as it is now. Raises ``ApiError`` if there is no such pod."""
        pod = pod_of(await self._gateway.get(PODS, name, namespace=namespace))
        return (await self._plan(pod, at_most, search_s))[0]

    async def run(self, namespace: str, name: str, at_most: int, search_s: float) -> Outcome:
        """Makes room for the pod; answers how it ended. Room is kept no longer for a pod that did not get it."""
        outcome, self._moved = None, []
        try:
            outcome = await self._run(namespace, name, at_most, search_s)
        except KubeError as error:
            if not self._moved:
                raise
            outcome = Outcome(End.STOPPED, error.message if isinstance(error, ApiError) else str(error))
        finally:
            if self._nominated and (outcome is None or outcome.end is not End.BOUND):
                with suppress(KubeError):
                    await self._nominate(self._nominated, None)
        return replace(outcome, moved=tuple(self._moved))

    async def _run(self, namespace: str, name: str, at_most: int, search_s: float) -> Outcome:
        mover = Mover(self._gateway, self._timeout_s, self._tell, self._clock, self._sleep)
        while True:
            pod = pod_of(await self._gateway.get(PODS, name, namespace=namespace))
            if pod.node:
                return Outcome(End.BOUND, f"pod {pod.key} is bound to {pod.node}", pod.node)
            found, population = await self._plan(pod, at_most - len(self._moved), search_s)
            if isinstance(found, Reason) or not found.node:
                if await self._bound(pod):
                    continue
                text = found.text if isinstance(found, Reason) else found.reason
                return Outcome(End.LOST if self._moved else End.NO_PLAN, text)
            if not found.moves:
                return await self._wait(pod, found.node)
            move = found.moves[0]
            done = await mover.move(population.residents[move.uid], self._keeper(pod, found.node))
            if done.evicted:
                self._moved.append((move, done.node))
            if done.reason and not await self._bound(pod):
                return Outcome(End.STOPPED, done.reason)

    async def _plan(self, pod: Pod, at_most: int, search_s: float) -> tuple[Proposal | Reason, Population]:
        engine = Engine(self._clock, self._options)
        population = await read(self._gateway, engine)
        return proposal(engine, population, pod, max(at_most, 0), self._late(search_s)), population

    def _late(self, search_s: float) -> Late:
        deadline = self._clock() + search_s
        return lambda: self._clock() >= deadline

    async def _bound(self, pod: Pod) -> bool:
        found = await self._gateway.get(PODS, pod.name, namespace=pod.namespace)
        return bool(found.spec.node_name)

    async def _wait(self, pod: Pod, node: str) -> Outcome:
        """The room is there: kube-scheduler tries the pod again."""
        deadline, keep = self._clock() + self._timeout_s, self._keeper(pod, node)
        while self._clock() < deadline:
            await keep()
            found = pod_of(await self._gateway.get(PODS, pod.name, namespace=pod.namespace))
            if found.uid != pod.uid:
                return Outcome(End.LOST, f"pod {pod.key} is another one by now")
            if found.node:
                return Outcome(End.BOUND, f"pod {pod.key} is bound to {found.node}", found.node)
            await self._sleep(POLL_S)
        text = f"there is room for pod {pod.key} on {node}, but kube-scheduler has not bound it in time"
        return Outcome(End.LOST, text)

    def _keeper(self, pod: Pod, node: str) -> Wanted:
        """Says whose room it is, again whenever kube-scheduler has emptied the field; answers whether it waits yet."""

        async def keep() -> bool:
            return await self._nominate(pod, node)

        return keep

    async def _nominate(self, pod: Pod, node: str | None) -> bool:
        """Whether the pod waits for a node; if so, ``node`` is said to be its own."""
        try:
            found = await self._gateway.get(PODS, pod.name, namespace=pod.namespace)
            if found.metadata.uid != pod.uid or found.spec.node_name:
                return False
            if self._may_nominate and (found.status.nominated_node_name or None) != node:
                self._nominated = pod if node else None
                patch = {"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}}
                await self._gateway.merge_patch(PODS, pod.name, patch, namespace=pod.namespace, subresource="status")
        except ApiError as error:
            if error.not_found or error.conflict:
                return False
            if not error.forbidden:
                raise
            self._may_nominate, self._nominated = False, None
            self._tell("the room is not kept for the pod: no right to patch pods/status; others may take it")
        return True
