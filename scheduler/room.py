"""Wakes waiting pods when room is freed.

kube-scheduler retries a refused pod on events of its own objects; room in the ledger is freed after those. So the
leader changes an annotation of a node that has room again, at most twice a second and only while pods wait. A new
leader does so once in any case.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from tessera.kube.errors import ApiError, KubeError
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
        self._led = False

    async def run(self) -> None:
        while True:
            await self.ring()
            await self._sleep(_PERIOD_S)

    async def ring(self) -> bool:
        """Tells of the room freed since the last time; answers whether a node was changed."""
        freed, self._engine.freed = self._engine.freed, set()
        led, self._led = self._led, self._leading()
        if not self._led:
            return False
        if not led:  # who waits, and for what, only the former leader knows: all try again
            freed = {node.name for node in self._engine.ledger.nodes()}
        elif not self._engine.waiting:
            return False
        left = sorted(name for name in freed if self._engine.ledger.row(name) is not None)
        try:
            return await self._touch_one(left)
        except (KubeError, msgspec.DecodeError) as error:
            log.warning("room could not be told", error=str(error))
            self._engine.freed.update(left)
            self._led = led
            return False

    async def _touch_one(self, nodes: list[str]) -> bool:
        """Changes the first of ``nodes`` that is there; one that is not has no room for anybody."""
        for node in nodes:
            try:
                await self._gateway.merge_patch(NODES, node, {"metadata": {"annotations": {names.ROOM: self._stamp()}}})
            except ApiError as error:
                if not error.not_found:
                    raise
            else:
                return True
        return False
