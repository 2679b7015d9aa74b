"""PreStart: a container is about to be created, its slice is found, checked, prepared, and written as a CDI spec.

Answers within its deadline and may be asked again at any point: each step is idempotent by the slot's device name.
Nothing is on disk for the runtime to find before all checks have passed and what they promise is in place.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from tessera.device_plugin.checks import Grant, grant_of, may_pass
from tessera.device_plugin.cluster import Cluster, ClusterError
from tessera.device_plugin.identity import Claimant, Identity
from tessera.device_plugin.refusals import Refusal, Refused, end, wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.store import SliceStore
from tessera.reasons import Code

log = structlog.get_logger()

Clock = Callable[[], float]


class Preparation(Protocol):
    """What is done for a container whose assignment was read: for slices of this node's GPUs, or of another's."""

    async def __call__(self, item: Slice, claimant: Claimant, grant: Grant) -> str:
        """Claims the slice and returns when a runtime can resolve the device; what is told of it. Raises
        ``Refused``."""


class PreStart:
    """The whole way of one PreStartContainer call."""

    def __init__(
        self,
        identity: Identity,
        store: SliceStore,
        prepare: Preparation,
        cluster: Cluster,
        *,
        deadline_s: float = 20.0,
        patience_s: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._identity = identity
        self._store = store
        self._prepare = prepare
        self._cluster = cluster
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._clock = clock
        self._first_refused: dict[tuple[str, str], float] = {}

    async def __call__(self, slot: str) -> None:
        """Returns when the container of this slot may be created. Raises ``Refused``."""
        try:
            async with asyncio.timeout(self._deadline_s):
                claimant = await self._identity.of(slot)
                try:
                    await self._start(slot, claimant)
                except Refused as refused:
                    raise await self._settled(claimant, refused.refusal) from None
        except TimeoutError:
            raise wait(f"{slot}: not prepared within {self._deadline_s:g} s") from None
        self._first_refused.pop((claimant.holder.uid, claimant.holder.container), None)

    async def _start(self, slot: str, claimant: Claimant) -> None:
        item = self._slice(slot, claimant)
        grant = grant_of(claimant.live.pod, claimant.holder.container)
        if isinstance(grant, Refusal):
            raise Refused(grant)
        told = await self._prepare(item, claimant, grant)
        log.info("slice prepared", device=item.device, holder=str(claimant.holder), told=told)
        self._cluster.tell(claimant.live.pod, "SlicePrepared", f"container {claimant.holder.container}: {told}")

    def _slice(self, slot: str, claimant: Claimant) -> Slice:
        """The allocation behind the slot. The kubelet repeats the recorded name for ever, so a loss is for good."""
        item = self._store.book.current(slot)
        recorded = claimant.recorded_device
        lost = self._store.broken.get(recorded or (item.device if item else ""))
        if lost:
            raise end(Code.NOT_SYNCED, lost)
        if item is None or recorded not in (None, item.device):
            found = recorded or slot
            raise end(Code.NOT_SYNCED, f"{found} is not in this plugin's journal as the newest name of {slot}")
        return item

    async def _settled(self, claimant: Claimant, refusal: Refusal) -> Refused:
        """The refusal as it is answered; one that no retry can mend ends the pod."""
        refusal = self._with_patience(claimant.holder, refusal)
        pod = claimant.live.pod
        log.warning("slice refused", holder=str(claimant.holder), text=str(refusal), permanent=refusal.permanent)
        if refusal.permanent and not pod.deleting:
            self._cluster.tell(pod, refusal.reason.code, f"{refusal}; the pod is ended", warning=True)
            try:
                await self._cluster.end_pod(pod)
            except ClusterError as error:
                log.warning("pod not ended", pod=pod.key, error=str(error))
        return Refused(refusal)

    def _with_patience(self, holder: Holder, refusal: Refusal) -> Refusal:
        """A GPU that is away may come back: the pod is ended for it only after ``patience_s``."""
        if not (refusal.permanent and may_pass(refusal)):
            return refusal
        now = self._clock()
        self._first_refused = {k: t for k, t in self._first_refused.items() if now - t < 10 * self._patience_s}
        first = self._first_refused.setdefault((holder.uid, holder.container), now)
        return replace(refusal, permanent=now - first >= self._patience_s)
