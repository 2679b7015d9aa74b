"""Writes to which slice a GPULease moves.

The room is taken in the ledger before the write goes out, and given back only once the write is known to have failed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from tessera.kube import wire
from tessera.kube.convert import lease_slice
from tessera.kube.errors import ApiError, KubeError, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease, LeaseEnding
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.reasons import Reason
from tessera.scheduler.leases import Leases
from tessera.scheduler.watching import held_lease_of

_WRITE_S = 3.0
"""How long a write may take; the leader's lease must last longer."""
_LOOKED_UP_AFTER_S = 2.0
"""How long the watch may take to show what was written."""
_SETTLE_AFTER_S = 10.0
"""How long after a lost answer a target that is not there counts as refused: no write is in flight for longer."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Sent:
    """A target that the watch has not shown yet; ``version`` is what the lease had before it."""

    lease: GpuLease
    where: Slice
    version: str
    at: float
    answered: bool = False


class Targets:
    """``clock`` answers seconds that never go back."""

    def __init__(self, leases: Leases, gateway: Gateway, leader: LeaderLease, clock: Callable[[], float]) -> None:
        self._leases, self._gateway, self._leader, self._clock = leases, gateway, leader, clock
        self._sent: dict[str, _Sent] = {}

    @property
    def in_doubt(self) -> bool:
        """Whether a target was sent of which nobody knows yet what became of it."""
        return any(not sent.answered for sent in self._sent.values())

    async def aim(self, found: wire.GpuLease, where: Slice, domain: str = "") -> Reason | None:
        """Makes ``where`` the target of ``found``, just read; answers why there is no room. ``domain``: the trust
        domain of a lease that has none yet. Raises as ``patch``."""
        lease = held_lease_of(found)
        written = msgspec.to_builtins(lease_slice(where, lease.domain or domain))
        if reason := self._leases.aim(lease, where, domain):
            return reason
        sent = self._sent[lease.uid] = _Sent(lease, where, found.metadata.resource_version, self._clock())
        try:
            await self.patch(found, {"spec": {"target": written}})
        except (ApiError, Unreachable, LeaseEnding):
            self._miss(sent)
            raise
        sent.answered = True
        return None

    async def patch(self, found: wire.GpuLease, patch: dict[str, Any], subresource: str = "") -> None:
        """Only if ``found`` has not changed since it was read. Raises ``KubeError``, ``TimeoutError`` if none answers,
        and ``msgspec.DecodeError``."""
        self._leader.require(_WRITE_S, "a GPULease could be written")
        meta = found.metadata
        fence = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}}
        async with asyncio.timeout(_WRITE_S):
            await self._gateway.merge_patch(
                GPU_LEASES, meta.name, {**fence, **patch}, namespace=meta.namespace, subresource=subresource
            )

    async def look_up(self) -> None:
        """What became of targets that the watch has not shown in time."""
        for sent in list(self._sent.values()):
            if not self._leases.aims_at(sent.lease, sent.where):
                self._sent.pop(sent.lease.uid, None)
            elif self._clock() - sent.at >= _LOOKED_UP_AFTER_S:
                try:
                    await self._settle(sent)
                except (KubeError, msgspec.DecodeError) as error:
                    log.info("target not looked up yet", lease=sent.lease.key, error=str(error))

    async def _settle(self, sent: _Sent) -> None:
        lease = sent.lease
        found = await self._gateway.find(GPU_LEASES, lease.name, namespace=lease.namespace)
        now = held_lease_of(found) if found is not None and found.metadata.uid == lease.uid else None
        if found is None or now is None or sent.where in (now.target, now.slice):
            sent.answered = True  # and the room is kept until the watch says so too: it may tell of the target yet
        elif found.metadata.resource_version != sent.version or self._clock() - sent.at >= _SETTLE_AFTER_S:
            self._miss(sent)

    def _miss(self, sent: _Sent) -> None:
        self._leases.miss(sent.lease)
        self._sent.pop(sent.lease.uid, None)
