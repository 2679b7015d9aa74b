"""PreStart: a container is about to be created, its slice is found, checked, prepared, and written as a CDI spec.

Answers within its deadline and may be asked again at any point: each step is idempotent by the slot's device name.
Nothing is on disk for the runtime to find before all checks have passed and the agent holds the limits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from textwrap import shorten
from typing import Protocol

import grpc
import structlog

from tessera.device_plugin.agent import GpuProcess, Prepared
from tessera.device_plugin.checks import Grant, check_gpus, grant_of, may_pass
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import Cluster, ClusterError
from tessera.device_plugin.identity import Claimant, Identity
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.refusals import Refusal, Refused, end, wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.store import SliceStore
from tessera.model.gpus import Gpu
from tessera.reasons import Code

log = structlog.get_logger()

AGENT_WAIT_S = 3.0
"""Both start together after a reboot: a short wait here saves the kubelet's ten seconds until its next try."""
MAX_WHY = 300
"""Characters of an event that say why a slice is held at its level."""

Clock = Callable[[], float]


class AgentPort(Protocol):
    """The node agent, as far as PreStart needs it."""

    async def prepare(self, item: Slice, grant: Grant) -> Prepared:
        """Puts the limits in place. Raises ``Refused``."""

    def usage(self) -> Awaitable[list[GpuProcess]]:
        """The GPU processes of this moment."""


class Writer(Protocol):
    """Writes the CDI spec of a prepared slice."""

    async def write(self, item: Slice, prepared: Prepared, former_id: str) -> None:
        """Returns when a runtime can resolve the device. Raises ``Refused``."""


class PreStart:
    """The whole way of one PreStartContainer call."""

    def __init__(
        self,
        identity: Identity,
        store: SliceStore,
        claiming: Claiming,
        agent: AgentPort,
        inventory: Inventory,
        writer: Writer,
        cluster: Cluster,
        *,
        deadline_s: float = 20.0,
        patience_s: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._identity = identity
        self._store = store
        self._claiming = claiming
        self._agent = agent
        self._inventory = inventory
        self._writer = writer
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
        pod, holder = claimant.live.pod, claimant.holder
        item = self._slice(slot, claimant)
        grant = grant_of(pod, holder.container)
        if isinstance(grant, Refusal):
            raise Refused(grant)
        if not await self._inventory.ready_within(AGENT_WAIT_S):
            unjudged = "it is not known yet whether other drivers offer the GPUs of this node"
            gone = "the node agent cannot be reached, so the GPUs are not known"
            raise wait(unjudged if self._inventory.connected else gone)
        refusal = check_gpus(grant, holder.container, self._inventory.gpus)
        if refusal:
            raise Refused(refusal)
        _no_former_process(item, grant, claimant, await self._processes())
        item = await self._claiming.claim(item, holder, grant, self._inventory.gpus)
        prepared = await self._agent.prepare(item, grant)
        await self._writer.write(item, prepared, claimant.live.container_ids.get(holder.container, ""))
        log.info("slice prepared", device=item.device, holder=str(holder), level=prepared.level)
        self._cluster.tell(pod, "SlicePrepared", _told(item, prepared, self._inventory.gpus))

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

    async def _processes(self) -> list[GpuProcess]:
        try:
            return await self._agent.usage()
        except grpc.aio.AioRpcError as error:
            raise wait(f"node agent, Usage: {error.code().name}: {error.details()}") from None

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


def _no_former_process(item: Slice, grant: Grant, claimant: Claimant, processes: Iterable[GpuProcess]) -> None:
    """Refuses a restart while a GPU process of the container's former life is there, known by its ID, or, since the
    status may lag behind, by belonging to none of the pod's other containers."""
    container = claimant.holder.container
    uuids = {share.uuid for share in grant.shares}
    for process in processes:
        if process.pod_uid != claimant.holder.uid or process.gpu_uuid not in uuids:
            continue
        owner = claimant.live.owner_of(process.container_id)
        if owner == container or (owner is None and item.holder is not None):
            raise wait(f"GPU process {process.pid} of the former container {container} is still there")


def _told(item: Slice, prepared: Prepared, gpus: Mapping[str, Gpu]) -> str:
    """GPUs that have their level for the same reason share a clause."""
    given = ", ".join(f"{s.uuid} {s.mem_bytes >> 20} MiB {s.core_percent}%" for s in item.shares)
    whys = dict.fromkeys(gpus[s.uuid].evidence for s in item.shares if s.uuid in gpus)
    why = shorten("; ".join(filter(None, whys)), MAX_WHY, placeholder=" ...")
    name = item.holder.container if item.holder else ""
    return f"container {name}: held at level {prepared.level}{f' ({why})' if why else ''}: {given}"
