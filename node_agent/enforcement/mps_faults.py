"""A fault of an MPS server: one client's has ended the work of all, and it takes nobody until they have gone.

After ``FAULT_PATIENCE_S`` those that remain are ended, the offender first.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from tessera.node_agent.enforcement.mps_control import MpsControl, MpsError
from tessera.node_agent.enforcement.mps_log import Log
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.mps_offender import Offender
from tessera.node_agent.enforcement.mps_reasons import FAULT, RECOVERED
from tessera.node_agent.enforcement.mps_replies import ServerStatus
from tessera.node_agent.enforcement.port import TERMINATE_S

log = structlog.get_logger()

FAULT_PATIENCE_S = 2.0


class Faults:
    """Of the servers of one daemon. ``lasts``: whether there is one now."""

    def __init__(self, control: MpsControl, node: Node) -> None:
        self._control, self._node = control, node
        self._offender = Offender(Log(control.log / "server.log"), node.blamed)
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def know(self, pods: Mapping[int, str]) -> None:
        """The pods of the clients that live now."""
        self._offender.know(pods)

    def forget(self) -> None:
        """The daemon has gone, and its fault with it."""
        self._since = None
        self._offender.forget()

    async def look(self, states: Mapping[int, ServerStatus]) -> tuple[str, str] | None:
        """A reason and a text where a fault has begun or is over."""
        await asyncio.to_thread(self._offender.read)
        faulty = [server for server, status in states.items() if status is ServerStatus.FAULT]
        if not faulty:
            return self._note_recovery()
        await asyncio.to_thread(self._offender.search)
        now = self._node.clock()
        if self._since is None:
            self._since = now
            text = "a fault of one MPS client has ended the work of all, nobody is admitted until they have gone"
            return FAULT, f"{text}; {self._offender.text(self._node.slices())}"
        if now - self._since >= FAULT_PATIENCE_S:
            await self._clear(faulty)
        return None

    def _note_recovery(self) -> tuple[str, str] | None:
        if self._since is None:
            return None
        text = f"the MPS server serves again; {self._offender.text(self._node.slices())}"
        self.forget()
        return RECOVERED, text

    async def _clear(self, faulty: list[int]) -> None:
        """The offender first, the others together: one that hangs must not hold up the end of the fault."""
        try:
            pairs = [(server, client) for server in faulty for client in await self._control.clients(server)]
        except MpsError as error:
            log.warning("clients of a faulty MPS server not ended", gpus=self._control.uuids, error=str(error))
            return
        first = [pair for pair in pairs if pair[1] == self._offender.pid]
        for group in (first, [pair for pair in pairs if pair not in first]):
            await asyncio.gather(*(self._end(server, client) for server, client in group))

    async def _end(self, server: int, client: int) -> None:
        await self._node.clients.end(client, partial(self._terminate, server, client))

    async def _terminate(self, server: int, client: int) -> None:
        try:
            await asyncio.wait_for(self._control.terminate_client(server, client), TERMINATE_S)
        except (TimeoutError, MpsError) as error:
            log.warning("terminate_client", gpus=self._control.uuids, pid=client, error=str(error) or "took too long")
