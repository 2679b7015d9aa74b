"""The scheduler's loop: one pod at a time through filter and prioritize, Bindings in the background.

Reads nodes and pods through watches, writes Bindings (the extender's pods through the extender) and the condition
``PodScheduled``. An answer that is an error sends the pod back after a back-off; nothing is decided twice, because the
API server refuses a second Binding.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from tessera.kube.errors import ApiError, KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Change, Reflector
from tessera.kube.resources import NODES, PODS, untyped
from tessera.model import names
from tessera.simulator.kube_scheduler.cluster import View, ended, uid_of
from tessera.simulator.kube_scheduler.extenders import Extender, ExtenderError
from tessera.simulator.kube_scheduler.fitting import counted_requests, explain, refusal, uses_extender
from tessera.simulator.kube_scheduler.queue import Queue

log = structlog.get_logger()

Plain = dict[str, Any]
DEFAULT_SCHEDULER = "default-scheduler"


@dataclass(frozen=True, slots=True)
class Settings:
    """``scheduler`` is the profile with the extender. ``seed`` decides ties; ``weight`` is the extender's."""

    scheduler: str = names.SCHEDULER
    weight: int = 160
    seed: int = 0
    parallel_binds: int = 16


class Unschedulable(Exception):
    """No node suits; ``reasons`` holds a text for each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(explain(reasons))


class KubeScheduler:
    """Run ``run`` as a task; it returns only when cancelled."""

    def __init__(
        self,
        gateway: Gateway,
        extender: Extender,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway, self._extender, self._clock = gateway, extender, clock
        self.settings = settings or Settings()
        self.queue = Queue()
        self.view = View()
        self._rng = random.Random(self.settings.seed)
        self._changed = asyncio.Event()
        self._binding: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(self.settings.parallel_binds)
        self._nodes = Reflector(gateway, untyped(NODES), self._take_nodes)
        self._pods = Reflector(gateway, untyped(PODS), self._take_pods)

    async def run(self) -> None:
        """For ever."""
        reflectors = [asyncio.create_task(self._nodes.run()), asyncio.create_task(self._pods.run())]
        loop = asyncio.create_task(self._loop())
        try:
            done, _ = await asyncio.wait([loop, *reflectors], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks = [loop, *reflectors, *self._binding]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _loop(self) -> None:
        await self._nodes.wait_synced()
        await self._pods.wait_synced()
        while True:
            self._changed.clear()
            uid = self.queue.take(self._clock())
            if uid is not None:
                await self._schedule(uid)
                continue
            due = self.queue.due()
            try:
                async with asyncio.timeout(None if due is None else max(due - self._clock(), 0.01)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _schedule(self, uid: str) -> None:
        pod = self.view.pods.get(uid)
        if pod is None or not self._wants_node(pod):
            self.queue.drop(uid)
            return
        try:
            node = await self._choose(pod)
        except Unschedulable as error:
            self.queue.park(uid, self._clock())
            await self._tell(pod, "Unschedulable", str(error))
        except ExtenderError as error:
            self.queue.retry(uid)
            await self._tell(pod, "SchedulerError", str(error))
        else:
            self.view.assume(pod, node)
            await self._slots.acquire()
            task = asyncio.create_task(self._bind(pod, node))
            self._binding.add(task)
            task.add_done_callback(self._bound)

    async def _choose(self, pod: Plain) -> str:
        """The node for the pod. Raises ``Unschedulable`` or ``ExtenderError``."""
        counted = counted_requests(pod)
        texts = {n: refusal(pod, node, self.view.used(n), counted) for n, node in self.view.nodes.items()}
        nodes = [name for name, text in texts.items() if not text]
        if nodes and uses_extender(pod, self.settings.scheduler):
            verdict = await self._extender.filter(pod, nodes)
            texts |= verdict.failed
            nodes = list(verdict.nodes)
            if len(nodes) > 1:
                return self._best(nodes, await self._scores(pod, nodes))
        if not nodes:
            raise Unschedulable([text for text in texts.values() if text])
        return nodes[0] if len(nodes) == 1 else self._best(nodes, [0] * len(nodes))

    async def _scores(self, pod: Plain, nodes: Sequence[str]) -> list[int]:
        """The extender's 0..10, scaled to the plugins' 0..100 and weighed. Its errors are not fatal there: score 0."""
        try:
            found = await self._extender.prioritize(pod, nodes)
        except ExtenderError as error:
            log.warning("prioritize failed", error=str(error))
            return [0] * len(nodes)
        return [found.get(node, 0) * 10 * self.settings.weight for node in nodes]

    def _best(self, nodes: Sequence[str], scores: Sequence[int]) -> str:
        top = max(scores)
        return self._rng.choice([node for node, score in zip(nodes, scores, strict=True) if score == top])

    async def _bind(self, pod: Plain, node: str) -> None:
        uid, meta = uid_of(pod), pod["metadata"]
        try:
            if uses_extender(pod, self.settings.scheduler):
                await self._extender.bind(pod, node)
            else:
                await self._gateway.bind(meta["namespace"], meta["name"], uid, node, {})
        except (ExtenderError, KubeError) as error:
            self.view.forget_assumed(pod)
            self.queue.retry(uid)
            self._changed.set()
            await self._tell(pod, "SchedulerError", f"binding rejected: {error}")
        else:
            self.queue.drop(uid)

    def _bound(self, task: "asyncio.Task[None]") -> None:
        self._binding.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()):
            log.error("a Binding ended badly", exc_info=error)

    async def _tell(self, pod: Plain, reason: str, message: str) -> None:
        """Writes ``PodScheduled=False``, if it says something new."""
        meta = pod["metadata"]
        known = self.view.pods.get(uid_of(pod), pod)
        others = [c for c in (known.get("status") or {}).get("conditions") or [] if c.get("type") != "PodScheduled"]
        condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        if condition in ((known.get("status") or {}).get("conditions") or []):
            return
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [*others, condition]}}
        try:
            await self._gateway.merge_patch(
                untyped(PODS), meta["name"], patch, namespace=meta["namespace"], subresource="status"
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                log.warning("condition not written", pod=meta["name"], error=str(error))
        except KubeError as error:
            log.warning("condition not written", pod=meta["name"], error=str(error))

    def _wants_node(self, pod: Plain) -> bool:
        spec, meta = pod["spec"], pod["metadata"]
        mine = spec.get("schedulerName", DEFAULT_SCHEDULER) in (self.settings.scheduler, DEFAULT_SCHEDULER)
        free = not spec.get("nodeName") and not spec.get("schedulingGates") and not meta.get("deletionTimestamp")
        return mine and free and not ended(pod) and not self.view.node_of(uid_of(pod))

    def _take_nodes(self, change: Change[Plain]) -> None:
        if self.view.take_nodes(change):
            self.queue.wake()
            self._changed.set()

    def _take_pods(self, change: Change[Plain]) -> None:
        for pod in self.view.take_pods(change):
            uid, assigned = uid_of(pod), bool(pod["spec"].get("nodeName"))
            if self._wants_node(pod):
                self.queue.add(uid)
            elif assigned or pod["metadata"].get("deletionTimestamp"):
                self.queue.drop(uid)
            if assigned and (ended(pod) or pod["metadata"].get("deletionTimestamp") == "gone"):
                self.queue.wake()
            self._changed.set()
