"""Wakes waiting pods when room is freed.

kube-scheduler retries a refused pod on events of its own objects; room in the ledger is freed after those. So the
leader changes an annotation of a node that has room again, at most twice a second and only while pods wait.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tessera.kube.errors import ApiError, UnknownOutcome, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.resources import NODES
from tessera.model import names
from tessera.scheduler.engine import Engine

_PERIOD_S = 0.5

log = structlog.get_logger()


class Bell:
    """Rings for freed room. ``stamp`` answers a text that differs at each call."""

    def __init__(
        self,
        engine: Engine,
        gateway: Gateway,
        stamp: Callable[[], str],
        leading: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine, self._gateway, self._stamp, self._leading, self._sleep = engine, gateway, stamp, leading, sleep

    async def run(self) -> None:
        while True:
            await self.ring()
            await self._sleep(_PERIOD_S)

    async def ring(self) -> bool:
        """Tells of the room freed since the last time; answers whether a node was changed."""
        freed, self._engine.freed = sorted(self._engine.freed), set()
        if not (freed and self._engine.waiting and self._leading()):
            return False
        for node in freed:
            if await self._touch(node):
                return True
        self._engine.freed.update(freed)
        return False

    async def _touch(self, node: str) -> bool:
        patch = {"metadata": {"annotations": {names.ROOM: self._stamp()}}}
        try:
            await self._gateway.merge_patch(NODES, node, patch)
        except (ApiError, Unreachable, UnknownOutcome) as error:
            log.warning("room could not be told", node=node, error=str(error))
            return False
        return True
