"""When a GPULease that was looked at in vain is looked at again: soon, then less and less often."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tessera.model.gpu_leases import GpuLease
from tessera.scheduler.relocation import Cause

_FIRST_S, _LONGEST_S = 1.0, 10.0
Asked = tuple[GpuLease, Cause | None]


@dataclass(frozen=True, slots=True)
class _Pause:
    asked: Asked
    seconds: float
    until: float


class Pauses:
    """A pause ends at once where the lease, or what it is about, has changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}

    def due(self, asked: Mapping[str, Asked], most: int) -> list[Asked]:
        """Of ``asked``, by the lease's UID, those to look at now, the longest due first; at most ``most``."""
        self._pauses = {uid: pause for uid, pause in self._pauses.items() if asked.get(uid) == pause.asked}
        until = {uid: self._pauses[uid].until if uid in self._pauses else 0.0 for uid in asked}
        now = self._clock()
        return [asked[uid] for uid in sorted(until, key=until.__getitem__) if until[uid] <= now][:most]

    def pause(self, lease: GpuLease, cause: Cause | None) -> None:
        """It was looked at in vain."""
        before = self._pauses.get(lease.uid)
        seconds = min(2 * before.seconds, _LONGEST_S) if before else _FIRST_S
        self._pauses[lease.uid] = _Pause((lease, cause), seconds, self._clock() + seconds)

    def end(self, uid: str) -> None:
        """Something was done."""
        self._pauses.pop(uid, None)
