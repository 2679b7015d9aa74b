"""Pods whose executor kube-scheduler has preempted: they go with it.

An executor has its client's priority, and kube-scheduler may choose it where CPU or memory of the GPU's node is short.
It deletes pods of that node only, and does not know for whom this one computes. Without an executor the client would
have lost its sessions, and the pool would make another one, which waits for the very room that was taken. So does the
next executor of a standing lease: that lease was not to end with its pod, and its pod does not end with it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

import structlog

from tessera.kube.convert import executor_message
from tessera.kube.errors import KubeError
from tessera.kube.reflector import Deleted, Listed, Replaced, Told, Upserted
from tessera.model.charges import charge_of
from tessera.model.gpu_leases import GpuLease
from tessera.model.pods import Pod
from tessera.scheduler.dismissals import Dismissals
from tessera.scheduler.holders import Holder, Holders
from tessera.scheduler.leases import Leases

_PERIOD_S = 1.0
_KEPT_S = 60.0
"""How long the client of an executor is looked for; by then the pool has made another executor."""

log = structlog.get_logger()


class Bereaved:
    """``leading`` is asked before each deletion; ``counted`` hears of each."""

    def __init__(
        self,
        leases: Leases,
        holders: Holders,
        dismissals: Dismissals,
        leading: Callable[[], bool],
        counted: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._holders, self._dismissals = leases, holders, dismissals
        self._leading, self._counted, self._clock = leading, counted, clock
        self._woken = asyncio.Event()
        self._found: dict[str, tuple[Pod, float]] = {}
        self._done: set[str] = set()

    def observe(self, change: Told[Pod]) -> None:
        """Takes one change of the pods."""
        match change:
            case Replaced(objects):
                self._observe(objects)
            case Listed(objects, uids):
                self._observe(objects)
                self._done &= self._done if uids is None else uids
            case Upserted(pod):
                self._observe([pod])
            case Deleted(gone):
                self._done.discard(gone.uid)

    async def run(self) -> None:
        while True:
            self._woken.clear()
            await self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _PERIOD_S if self._found else None)

    async def step(self) -> None:
        """One round over the executors that were seen to go."""
        for uid, (executor, since) in list(self._found.items()):
            if not self._leading():
                return
            try:
                over = await self._follow(executor)
            except (KubeError, TimeoutError) as error:
                log.warning("client of a preempted executor not ended", executor=executor.key, error=str(error))
                over = False
            if over or since + _KEPT_S <= self._clock():
                del self._found[uid]

    def _observe(self, pods: Iterable[Pod]) -> None:
        for pod in pods:
            if pod.lease and pod.preempted and pod.uid not in self._done and self._leases.served_by(pod):
                self._done.add(pod.uid)
                self._found[pod.uid] = pod, self._clock()
                self._woken.set()

    async def _follow(self, executor: Pod) -> bool:
        """Ends the client; answers whether nothing is left to do."""
        lease = self._leases.of_executor(executor)
        client = self._holders.get(lease.pod_uid) if lease and not lease.standing else None
        if lease is None or client is None or client.leaving_from is not None or not _serves(lease, executor):
            return True
        log.info("a preempted executor's client goes with it", executor=executor.key, client=client.key)
        await self._end(client, executor)
        return True

    async def _end(self, client: Holder, executor: Pod) -> None:
        await self._dismissals.tell(client, executor_message(executor))
        text = f"with its executor {executor.key}, which gave way to a pod of higher priority on {executor.node}"
        await self._dismissals.delete(client, text)
        self._counted(1)


def _serves(lease: GpuLease, executor: Pod) -> bool:
    """Whether it has the lease's slice, and not one that the sessions had left, or had not come to."""
    charge = charge_of(executor)
    found = charge.assignment.shares if charge and charge.assignment else ()
    return executor.node == lease.node and found == (lease.share,)
