"""Gates whose tokens were reviewed a moment ago: a gate shows its token at each call, and a crowd of clients at its
door is not to cost the API server a review of it each."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

from tessera.remote.controller.reviews import Bearer, Refused

KEPT_S = 10.0
"""A token must die soon after its pod. The controller's own watch, which is asked at each call, mostly knows of that
end before this is over; it does not know of a token that was taken back otherwise."""
MOST = 8192
"""Answers that are kept, each of some hundred bytes."""
AT_ONCE = 32
"""Reviews under way; others wait, as long as their callers do."""

Review = Callable[[str], Awaitable[Bearer | Refused]]


class Reviewed:
    """``review`` asks the API server, for ``audience``. Only what it says of good tokens is kept, by their digests, so
    that no token lies in memory for longer than its call."""

    def __init__(self, review: Review, audience: str, clock: Callable[[], float]) -> None:
        self._review, self._audience, self._clock = review, audience, clock
        self._kept: dict[bytes, tuple[float, Bearer]] = {}
        self._flights: dict[bytes, asyncio.Task[Bearer | Refused]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, token: str) -> Bearer | Refused:
        """Who holds it. All who ask meanwhile share one review. Raises as ``review``."""
        key = sha256(f"{self._audience} {token}".encode(errors="surrogatepass")).digest()
        since, bearer = self._kept.get(key, (0.0, None))
        if bearer is not None and self._clock() - since < KEPT_S:
            return bearer
        if key not in self._flights:
            self._flights[key] = asyncio.create_task(self._reviewed(key, token))
            self._flights[key].add_done_callback(lambda flight: self._landed(key, flight))
        return await asyncio.shield(self._flights[key])

    async def _reviewed(self, key: bytes, token: str) -> Bearer | Refused:
        async with self._free:
            since = self._clock()
            found = await self._review(token)
        if isinstance(found, Bearer):
            self._keep(key, since, found)
        return found

    def _keep(self, key: bytes, since: float, bearer: Bearer) -> None:
        self._kept.pop(key, None)
        self._kept[key] = since, bearer
        for old in list(self._kept):
            if len(self._kept) <= MOST and since - self._kept[old][0] < KEPT_S:
                break
            del self._kept[old]

    def _landed(self, key: bytes, flight: "asyncio.Task[Bearer | Refused]") -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # whoever asked may have gone
