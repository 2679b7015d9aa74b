"""Looks after several things at once: one that hangs holds up none of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import structlog

from tessera.node_agent.enforcement.port import Incident

log = structlog.get_logger()

K = TypeVar("K", bound=Hashable)

LOOK_S = 1.0
"""How long a round waits for those that are slow."""

Look = Callable[[], Awaitable[Iterable[Incident]]]


class Looks:
    """At most one look after each thing at a time: one that is not done by the end of a round goes on, and what it
    finds is answered by the round after its end. ``wait_s``: how long a round may take."""

    def __init__(self, wait_s: float = LOOK_S) -> None:
        self._wait_s = wait_s
        self._running: dict[Hashable, asyncio.Future[Iterable[Incident]]] = {}

    async def round(self, looks: Mapping[K, Look]) -> tuple[Incident, ...]:
        """Begins ``looks``, by what they look after; answers what those found that are done. A failure is logged."""
        for thing, look in looks.items():
            if thing not in self._running:
                self._running[thing] = asyncio.ensure_future(look())
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._wait_s)
        done = {thing: look for thing, look in self._running.items() if look.done()}
        self._running = {thing: look for thing, look in self._running.items() if thing not in done}
        return tuple([incident for thing, look in done.items() for incident in _found(thing, look)])

    async def close(self) -> None:
        """Ends the looks that go on."""
        running, self._running = list(self._running.values()), {}
        for look in running:
            look.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _found(thing: Hashable, look: asyncio.Future[Iterable[Incident]]) -> Iterable[Incident]:
    if look.cancelled():
        return ()
    if error := look.exception():
        log.error("a look failed; the next one comes", after=str(thing), exc_info=error)
        return ()
    return look.result()
