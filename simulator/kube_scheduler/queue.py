"""The order in which pods are tried: active, backing off, or parked until an event may have changed their fate.

Follows k8s.io/kubernetes/pkg/scheduler/backend/queue: the wait doubles with each attempt, from 1 s to 10 s, counted
from the last attempt, so that a pod parked for long is tried at once when it is woken. Pure: the caller gives the time.
"""

from collections import deque
from dataclasses import dataclass, field

FIRST_S = 1.0
LAST_S = 10.0
FLUSH_S = 30.0
"""A parked pod is tried again after this long, whatever was missed. (5 minutes in the original.)"""


@dataclass(slots=True)
class _Tried:
    attempts: int = 0
    at: float = float("-inf")


@dataclass(slots=True)
class Queue:
    """Holds pod UIDs. A UID is in one place only: active, backing off, parked, or taken."""

    first_s: float = FIRST_S
    last_s: float = LAST_S
    _active: deque[str] = field(default_factory=deque)
    _back_off: dict[str, float] = field(default_factory=dict)
    _parked: dict[str, float] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)
    _tried: dict[str, _Tried] = field(default_factory=dict)
    _wakes: int = 0

    def add(self, uid: str) -> None:
        """A pod that wants a node; one that is known already stays where it is."""
        if uid not in self._tried:
            self._tried[uid] = _Tried()
            self._active.append(uid)

    def drop(self, uid: str) -> None:
        """The pod needs no node any more."""
        self._tried.pop(uid, None)
        self._taken.pop(uid, None)
        self._back_off.pop(uid, None)
        self._parked.pop(uid, None)
        if uid in self._active:
            self._active.remove(uid)

    def take(self, now: float) -> str | None:
        """The next pod to try, if one is due."""
        for uid in [uid for uid, due in self._back_off.items() if due <= now]:
            del self._back_off[uid]
            self._active.append(uid)
        for uid in [uid for uid, since in self._parked.items() if since + FLUSH_S <= now]:
            del self._parked[uid]
            self._active.append(uid)
        if not self._active:
            return None
        uid = self._active.popleft()
        self._taken[uid] = self._wakes
        tried = self._tried[uid]
        tried.attempts, tried.at = tried.attempts + 1, now
        return uid

    def park(self, uid: str, now: float) -> None:
        """No node fits: wait for an event. One that came while the pod was tried counts."""
        wakes = self._taken.pop(uid, None)
        if uid not in self._tried:
            return
        if wakes == self._wakes:
            self._parked[uid] = now
        else:
            self._back_off[uid] = self._due(uid)

    def retry(self, uid: str) -> None:
        """Something went wrong: try again after the back-off."""
        self._taken.pop(uid, None)
        if uid in self._tried:
            self._back_off[uid] = self._due(uid)

    def wake(self) -> None:
        """Something changed that may help: parked pods are tried again, each when its back-off is over."""
        self._wakes += 1
        self._back_off.update((uid, self._due(uid)) for uid in self._parked)
        self._parked.clear()

    def due(self) -> float | None:
        """When the next pod will be due; ``None`` if only an event can bring one."""
        if self._active:
            return float("-inf")
        times = [*self._back_off.values(), *(since + FLUSH_S for since in self._parked.values())]
        return min(times, default=None)

    def parked(self) -> frozenset[str]:
        """The pods that wait for an event."""
        return frozenset(self._parked)

    def _due(self, uid: str) -> float:
        tried = self._tried[uid]
        return tried.at + float(min(self.first_s * 2 ** max(tried.attempts - 1, 0), self.last_s))
