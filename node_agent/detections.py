"""When the enforcement level of each GPU is detected, and what came of it: one GPU that hangs holds up none of the
others."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.port import Finding

log = structlog.get_logger()

DETECT_S = 30.0
"""Between two detections of the level of a GPU."""
FIRST_S, AGAIN_S = 10.0, 0.5
"""How long a round waits: where it begins the first detection of a GPU, which may start a daemon, and else."""
NOT_YET = Finding(LEVEL_WATCH, "not looked at yet")
UNDER_WAY = Finding(LEVEL_NONE, "its level is not known yet: the first detection goes on")


class Detections:
    """``detect`` answers the level of a GPU. At most one detection of each goes on at a time; one that is not done by
    the end of a round goes on, and its GPU keeps the finding that it has."""

    def __init__(self, detect: Callable[[str], Awaitable[Finding]], clock: Callable[[], float]) -> None:
        self._detect, self._clock = detect, clock
        self._running: dict[str, asyncio.Future[Finding]] = {}
        self._found: dict[str, Finding] = {}
        self._at: dict[str, float] = {}
        self._begun: set[str] = set()

    def of(self, uuid: str) -> Finding:
        """The last finding. Where there is none yet nothing is placed, once it is being looked for."""
        return self._found.get(uuid, UNDER_WAY if uuid in self._running else NOT_YET)

    def doubt(self, uuids: Iterable[str]) -> None:
        """What the level of these GPUs rests on has changed: the next round detects it again, also where a detection
        goes on."""
        for uuid in uuids:
            self._at.pop(uuid, None)

    async def round(self, healthy: Sequence[str]) -> None:
        """Detects what is due of the ``healthy`` GPUs; returns once that is done, or in time."""
        self._take()
        self._at = {uuid: at for uuid, at in self._at.items() if uuid in healthy}
        now = self._clock()
        due = [u for u in healthy if u not in self._running and now - self._at.get(u, -math.inf) >= DETECT_S]
        for uuid in due:
            # From its beginning on: what is doubted while it goes on is detected once more.
            self._at[uuid] = now
            self._running[uuid] = asyncio.ensure_future(self._detect(uuid))
        first = not self._begun.issuperset(due)
        self._begun.update(due)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=FIRST_S if first else AGAIN_S)
        self._take()

    async def close(self) -> None:
        """Ends the detections that go on."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _take(self) -> None:
        for uuid, one in list(self._running.items()):
            if one.done():
                del self._running[uuid]
                self._found[uuid] = _result(uuid, one)


def _result(uuid: str, one: "asyncio.Future[Finding]") -> Finding:
    if error := one.exception():
        log.error("the level of a GPU could not be detected", uuid=uuid, exc_info=error)
        return Finding(LEVEL_NONE, f"its level could not be detected: {error}")
    return one.result()
