"""Leader election on a Lease, as client-go does it, and the proof of leadership that fences a Binding.

No two clocks are compared. A candidate waits until it has itself seen the lease unchanged for the lease's whole
duration; a leader counts from the moment before it sent its last successful renewal. So the leader stops believing
before anybody else can start, and a new leader has waited out the old one. The clock counts a suspended machine's
sleep.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from tessera.kube import wire
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import LEASES

_log = structlog.get_logger(__name__)
DRIFT = 0.01
"""Two machines' clocks may run this much apart in rate; the leader counts its lease shorter by it."""


def boot_time() -> float:
    """Seconds since boot, time in suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def utc_now() -> datetime:
    return datetime.now(UTC)


class LeaseEnding(KubeError):
    """Nothing more may be written by who leads now."""


class LeaderLease:
    """One candidate. ``identity`` must be unique to this process (host name and a UUID).

    ``notes`` are annotations that the leader writes with each renewal.
    """

    def __init__(
        self,
        gateway: Gateway,
        namespace: str,
        name: str,
        identity: str,
        *,
        notes: Callable[[], Mapping[str, str]] = dict,
        duration_s: int = 15,
        retry_s: float = 2.0,
        clock: Callable[[], float] = boot_time,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 < retry_s < duration_s / 2:
            raise ValueError(f"retry_s: found {retry_s}; allowed: above 0 and below half of duration_s {duration_s}")
        self._gateway = gateway
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._notes = notes
        self._duration_s = duration_s
        self._retry_s = retry_s
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._seen: wire.Lease | None = None
        self._seen_at = 0.0
        self._valid_until = float("-inf")
        self._held = False
        self._released = False
        self._changed = asyncio.Condition()

    @property
    def leading(self) -> bool:
        """Whether the lease is ours at this moment."""
        return self.valid_for(0.0)

    @property
    def epoch(self) -> int:
        """How often the lease has changed hands; grows with each new leader."""
        return (self._seen.spec.lease_transitions or 0) if self._seen else 0

    @property
    def holder(self) -> str:
        """Who held the lease when it was last read, empty for nobody."""
        return (self._seen.spec.holder_identity or "") if self._seen else ""

    @property
    def annotations(self) -> Mapping[str, str] | None:
        """Those of the lease when it was last read or written; ``None`` before that."""
        return self._seen.metadata.annotations if self._seen else None

    def require(self, seconds: float, what: str) -> None:
        """Raises ``LeaseEnding`` unless it lasts so long, for ``what`` is to be written."""
        if not self.valid_for(seconds):
            raise LeaseEnding(f"this scheduler's lease ends before {what}")

    def valid_for(self, seconds: float) -> bool:
        """Whether no one else can lead within the next ``seconds``; ask right before a write that takes at most so."""
        return self._clock() + seconds < self._valid_until

    async def wait_leading(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.leading)

    async def wait_lost(self) -> None:
        """Until the lease is lost; noticed within a third of its duration and a retry. ``valid_for`` is exact."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.leading)

    async def run(self) -> None:
        """Acquires, renews, and acquires again, until cancelled or released."""
        while not self._released:
            await self.step()
            await self._sleep(self._pause_s())

    async def step(self) -> None:
        """One try to acquire or renew."""
        was = self._held
        try:
            async with asyncio.timeout(self._duration_s / 3):
                await self._try()
        except (KubeError, TimeoutError, msgspec.DecodeError) as error:
            _log.warning("lease not renewed" if was else "lease not read", lease=self._name, error=str(error))
        await self._notice(was)

    async def release(self) -> None:
        """Lets the next leader start at once. After ``run`` was cancelled and the last write that relied on the lease
        was answered."""
        self._released = True
        leading, self._valid_until = self.leading, float("-inf")
        if leading and self._seen is not None:
            spec = msgspec.structs.replace(self._seen.spec, holder_identity="", lease_duration_seconds=1)
            try:
                self._seen = await self._gateway.replace(LEASES, msgspec.structs.replace(self._seen, spec=spec))
            except KubeError as error:
                _log.warning("lease not released", lease=self._name, error=str(error))
        await self._notice(self._held)

    async def _try(self) -> None:
        if self._held and self._seen is not None and self.leading and await self._write(self._seen):
            return
        lease = await self._read()
        if self._released:
            return
        if lease is None:
            await self._create()
        elif self._may_take(lease):
            await self._write(lease)

    async def _read(self) -> wire.Lease | None:
        lease = await self._gateway.find(LEASES, self._name, namespace=self._namespace)
        if lease is None:
            return None
        if self._seen is None or lease.metadata.resource_version != self._seen.metadata.resource_version:
            self._seen, self._seen_at = lease, self._clock()
        return lease

    def _may_take(self, lease: wire.Lease) -> bool:
        """Free, ours by a write whose answer was lost, or unchanged under our eyes for its whole duration."""
        spec = lease.spec
        if not spec.holder_identity or spec.holder_identity == self._identity:
            return True
        return self._clock() - self._seen_at >= (spec.lease_duration_seconds or self._duration_s)

    async def _create(self) -> None:
        metadata = wire.ObjectMeta(name=self._name, namespace=self._namespace, annotations=dict(self._notes()))
        began = self._clock()
        try:
            made = await self._gateway.create(LEASES, wire.Lease(metadata=metadata, spec=self._spec(None)))
        except ApiError as error:
            if error.already_exists:
                return
            raise
        self._won(made, began)

    async def _write(self, lease: wire.Lease) -> bool:
        """Writes us as holder over ``lease``; ``False`` if somebody changed it first."""
        began = self._clock()
        annotations = {**lease.metadata.annotations, **self._notes()}
        metadata = msgspec.structs.replace(lease.metadata, annotations=annotations)
        changed = msgspec.structs.replace(lease, metadata=metadata, spec=self._spec(lease.spec))
        try:
            written = await self._gateway.replace(LEASES, changed)
        except ApiError as error:
            if error.conflict or error.not_found:
                return False
            raise
        self._won(written, began)
        return True

    def _won(self, lease: wire.Lease, began: float) -> None:
        self._seen, self._seen_at = lease, self._clock()
        self._valid_until = began + self._duration_s * (1 - DRIFT)

    def _spec(self, before: wire.LeaseSpec | None) -> wire.LeaseSpec:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before is not None and before.holder_identity == self._identity
        transitions = (before.lease_transitions or 0) if before else 0
        return wire.LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=self._duration_s,
            acquire_time=before.acquire_time if ours and before else stamp,
            renew_time=stamp,
            lease_transitions=transitions + (0 if ours or before is None else 1),
        )

    async def _notice(self, was: bool) -> None:
        self._held = self.leading
        if was != self._held:
            _log.info("leading" if self._held else "not leading any more", lease=self._name, epoch=self.epoch)
        async with self._changed:
            self._changed.notify_all()

    def _pause_s(self) -> float:
        return self._retry_s * (1.0 + (0.0 if self._held else self._rng.uniform(0.0, 0.2)))
