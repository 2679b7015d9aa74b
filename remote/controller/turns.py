"""How often clients are reviewed: a lease cannot have the API server review tokens as fast as its programs come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tessera.remote.controller.reviews import Refused

BURST, PER_S = 10, 2.0
"""Of one lease: programs that come back together after a connection broke, and such as are begun again and again."""
AT_ONCE = 32
"""Of all leases together. A review takes milliseconds: only an API server that is slow has so many under way."""
_FEW = 1024


class Buckets:
    """One for each key: full it holds ``burst``, and ``per_s`` come back each second."""

    def __init__(self, burst: int, per_s: float, clock: Callable[[], float]) -> None:
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._left: dict[str, tuple[float, float]] = {}
        self._crowd = _FEW

    def take(self, key: str) -> bool:
        """Takes one; ``False``: there is none."""
        now = self._clock()
        left = self._now(key, now)
        if len(self._left) >= self._crowd:
            self._left = {each: kept for each, kept in self._left.items() if self._now(each, now) < self._burst}
            self._crowd = max(_FEW, 2 * len(self._left))
        taken = left >= 1
        self._left[key] = left - taken, now
        return taken

    def _now(self, key: str, now: float) -> float:
        left, at = self._left.get(key, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_s)


class Turns:
    """``sessions``: how many a lease may have, all of which may come back at once."""

    def __init__(self, sessions: int, clock: Callable[[], float]) -> None:
        self._burst = max(BURST, sessions)
        self._buckets = Buckets(self._burst, PER_S, clock)
        self._reviews = 0

    @contextmanager
    def turn(self, uid: str) -> Iterator[Refused | None]:
        """Held while a client of the lease of this UID is reviewed; not to be reviewed with what it gives, if any."""
        if self._reviews >= AT_ONCE:
            yield Refused("rate", f"attach: found {AT_ONCE} clients under review; allowed: to come again")
        elif not self._buckets.take(uid):
            allowed = f"{self._burst} at once, then {PER_S:g} a second; come again"
            yield Refused("rate", f"attach: found too many of one lease; allowed: {allowed}")
        else:
            self._reviews += 1
            try:
                yield None
            finally:
                self._reviews -= 1
