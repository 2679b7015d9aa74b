"""One MPS daemon and the GPUs that it serves: its ceilings, its admission, and what is done when it fails.

The limits of a slice reach its clients by environment; the server's own settings are the ceiling over all slices of the
group, so a client that drops its environment gains no more than the largest slice there, and the watcher sees it.

* ``FAULT``: one client's fault has ended the work of all, and the server takes nobody until they have gone. Admission
  is closed; after ``FAULT_PATIENCE_S`` those that remain are ended, the offender first.
* Gone: it is started again with its settings.
* It hangs or talks nonsense: nobody is admitted. Its server may serve on, so it is left alone while a slice depends on
  it; without one it is killed and started anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.mps_contexts import on_gpu, taken
from tessera.node_agent.enforcement.mps_control import MpsAbsent, MpsControl, MpsError
from tessera.node_agent.enforcement.mps_environment import percent_of
from tessera.node_agent.enforcement.mps_log import ServerLog
from tessera.node_agent.enforcement.mps_offender import Offender
from tessera.node_agent.enforcement.mps_proof import Proof
from tessera.node_agent.enforcement.mps_proven import Proven
from tessera.node_agent.enforcement.mps_replies import ServerStatus, same_size
from tessera.node_agent.enforcement.port import TERMINATE_S, EnforcementError, Finding, Incident
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

FAULT_PATIENCE_S = 2.0
SILENT_ROUNDS = 2
FAULT = "MpsServerFault"
RECOVERED = "MpsRecovered"
LOST = "MpsDaemonLost"
SILENT = "MpsDaemonSilent"
CHANGED = "MpsSettingChanged"
_SLACK_PERCENT = 1.0
"""A percentage may be printed as the hardware rounds it."""


class Clients(Protocol):
    """The host's side of the clients."""

    async def pods(self, pids: Iterable[int]) -> dict[int, str]:
        """The UIDs of the pods of those processes that belong to one."""
        ...

    async def end(self, pid: int, terminate: Callable[[], Awaitable[None]]) -> bool:
        """Ends a process of a container with a slice: looks whose it is, lets the server ``terminate`` it, and kills it
        if it is still the same. Of a process that is gone only the server is told. Says whether it was killed."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """What all groups of a node need. ``slices`` answers those prepared now, ``context_limit`` the most of a GPU;
    ``proof`` has to be brought on each GPU before MPS counts, unless it is ``None``; ``blamed`` answers the processes
    that the driver lately blamed for an error, the last one first; ``driver`` its version."""

    slices: Callable[[], Iterable[Slice]]
    clients: Clients
    context_limit: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    proof: Proof | None = None
    blamed: Callable[[], tuple[int, ...]] = tuple
    driver: Callable[[], str] = str


class MpsGroup:
    """``trouble``: why nobody is admitted, or empty. ``clients``: those of the last look, ``None`` if it failed."""

    def __init__(self, uuids: tuple[str, ...], control: MpsControl, node: Node) -> None:
        self.uuids, self.control, self._node = uuids, control, node
        self._offender = Offender(ServerLog(control.log / "server.log"), node.blamed)
        self._starting = asyncio.Lock()
        self._fault_since: float | None = None
        self._silent_rounds = 0
        self._worked = False
        self._proven = Proven(control.pipe.with_name("proven"))
        self.trouble = ""
        self.clients: frozenset[int] | None = None

    @property
    def slices(self) -> list[Slice]:
        """The prepared slices that this daemon holds."""
        own = set(self.uuids)
        inside = (item for item in self._node.slices() if own.issuperset(share.uuid for share in item.shares))
        return [item for item in inside if not item.whole]

    async def detect(self, uuid: str) -> Finding:
        """Whether one of the GPUs is served. Starts the daemon and a server if need be."""
        if self.trouble:
            return self._fails(self.trouble)
        try:
            async with self._starting:
                states = await self._start()
        except MpsError as error:
            return self._fails(f"MPS does not work: {error}")
        if not states or ServerStatus.UNKNOWN in states.values():
            return self._fails(f"MPS does not work: found servers {states}")
        await self.apply(tuple(states))
        self._worked = True
        if doubt := await self._doubt(uuid):
            return Finding(LEVEL_NONE, f"MPS works, but its clients would not be watched: {doubt}")
        return Finding(LEVEL_MPS, f"an MPS server answers: {', '.join(f'{p} {s}' for p, s in states.items())}")

    async def _doubt(self, uuid: str) -> str:
        """Why the driver's word on clients is not believed."""
        driver = self._node.driver()
        if self._node.proof is None or await asyncio.to_thread(self._proven.holds, uuid, driver):
            return ""
        environment = {"CUDA_MPS_PIPE_DIRECTORY": str(self.control.pipe)}
        doubt = await self._node.proof.prove(uuid, environment)
        if not doubt:
            await asyncio.to_thread(self._proven.add, uuid, driver)
        return doubt

    async def admit(self, item: Slice) -> None:
        """Sets the ceilings for ``item``, which is among the slices already. Raises ``EnforcementError``."""
        if self.trouble:
            raise EnforcementError(self.trouble)
        try:
            servers = await self.control.start()
            for server in servers:
                if await self.control.status(server) is ServerStatus.FAULT:
                    raise EnforcementError(f"the MPS server of {self._name} is in FAULT, nobody is admitted")
            await self._check_contexts(item, servers)
            await self._set_ceiling(servers)
        except MpsError as error:
            raise EnforcementError(f"MPS of {self._name}: {error}") from None

    async def apply(self, servers: tuple[int, ...] | None = None) -> None:
        """Sets the ceilings anew; one that cannot be set is found by ``observe``."""
        try:
            await self._set_ceiling(await self.control.servers() if servers is None else servers)
        except MpsError as error:
            log.warning("MPS ceiling not set", gpus=self.uuids, error=str(error))

    async def observe(self) -> list[Incident]:
        """One look after the daemon, and what is newly wrong or well again."""
        self.clients = None
        if not self._depended_on:
            return []
        try:
            servers = await self.control.servers()
            states = {server: await self.control.status(server) for server in servers}
            if ServerStatus.UNKNOWN in states.values():
                raise MpsError(f"found servers {states}")
            await self._remember(servers)
            found = await self._check_ceiling(servers)
        except MpsAbsent:
            return await self._revive(f"{self._name}: the MPS daemon was gone")
        except MpsError as error:
            return await self._note_silence(str(error))
        return [*self._note_answer(), *found, *await self._note_faults(states)]

    async def terminate(self, pid: int) -> bool:
        """Ends a client's work in the server's way; says whether it was a client."""
        try:
            for server in await self.control.servers():
                if pid in await self.control.clients(server):
                    await self.control.terminate_client(server, pid)
                    return True
        except MpsError as error:
            log.warning("terminate_client", gpus=self.uuids, pid=pid, error=str(error))
        return False

    @property
    def _depended_on(self) -> bool:
        return self._worked or (self.control.pipe.exists() and bool(self.slices))

    async def _remember(self, servers: tuple[int, ...]) -> None:
        clients = [client for server in servers for client in await self.control.clients(server)]
        self._offender.know(await self._node.clients.pods(clients))
        self.clients = frozenset(clients)

    async def _start(self) -> dict[int, ServerStatus]:
        servers = await self.control.start()
        if not servers:
            await self.control.start_server(0)
            servers = await self.control.servers()
        return {server: await self.control.status(server) for server in servers}

    def _fails(self, evidence: str) -> Finding:
        """Where MPS has worked, slices are not placed without it: they would share the GPU with those that it holds."""
        return Finding(LEVEL_NONE if self._depended_on else LEVEL_WATCH, evidence)

    async def _check_contexts(self, item: Slice, servers: tuple[int, ...]) -> None:
        clients = [client for server in servers for client in await self.control.clients(server)]
        contexts = await self.control.contexts() if clients else ()
        pods, limit = await self._node.clients.pods(clients), self._node.context_limit()
        for share in item.shares:
            found = taken(share.uuid, on_gpu(share.uuid, contexts, clients), pods, self._node.slices())
            if found > limit:
                raise EnforcementError(f"GPU {share.uuid} has {limit} MPS clients, as many as the driver takes")

    async def _set_ceiling(self, servers: tuple[int, ...]) -> None:
        memory, percent = self._ceiling()
        if memory:
            await self.control.set_ceiling(memory, percent, servers)

    def _ceiling(self) -> tuple[dict[str, int], int]:
        """The largest memory by GPU, and percentage, of all slices of the group; no cap counts as 100 percent."""
        memory: dict[str, int] = {}
        held = [(item, share) for item in self.slices for share in item.shares]
        for _, share in held:
            memory[share.uuid] = max(memory.get(share.uuid, 0), share.mem_bytes)
        return memory, min(max((percent_of(item, share) or 100 for item, share in held), default=100), 100)

    async def _check_ceiling(self, servers: tuple[int, ...]) -> list[Incident]:
        memory, percent = self._ceiling()
        if not memory or await self._as_set(memory, percent, servers):
            return []
        await self._set_ceiling(servers)
        return [self._incident(CHANGED, f"{self._name}: an MPS limit was not as set; it has been set again")]

    async def _as_set(self, memory: dict[str, int], percent: int, servers: tuple[int, ...]) -> bool:
        for uuid, mem_bytes in memory.items():
            if not all(same_size(reply, mem_bytes) for reply in await self.control.memory_limits(uuid, servers)):
                return False
        found = await self.control.percents(servers)
        return all(value is not None and abs(value - percent) <= _SLACK_PERCENT for value in found)

    async def _revive(self, what: str) -> list[Incident]:
        self._fault_since = None
        self._offender.forget()
        try:
            async with self._starting:
                states = await self._start()
            await self._set_ceiling(tuple(states))
        except MpsError as error:
            return self._troubled(LOST, f"{what} and cannot be started: {error}")
        self._silent_rounds, self.trouble = 0, ""
        return [self._incident(LOST, f"{what} and has been started again")]

    async def _note_silence(self, error: str) -> list[Incident]:
        self._silent_rounds += 1
        if self._silent_rounds < SILENT_ROUNDS:
            return []
        if not self.slices and await asyncio.to_thread(self.control.kill):
            return await self._revive(f"{self._name}: the MPS daemon did not answer and was killed")
        return self._troubled(SILENT, f"{self._name}: the MPS daemon does not answer, nobody is admitted: {error}")

    def _note_answer(self) -> list[Incident]:
        self._silent_rounds = 0
        if not self.trouble or self._fault_since is not None:
            return []
        self.trouble = ""
        return [self._incident(RECOVERED, f"{self._name}: the MPS daemon answers again", "Normal")]

    async def _note_faults(self, states: dict[int, ServerStatus]) -> list[Incident]:
        await asyncio.to_thread(self._offender.read)
        faulty = [server for server, status in states.items() if status is ServerStatus.FAULT]
        if not faulty:
            return self._note_recovery()
        await asyncio.to_thread(self._offender.search)
        now = self._node.clock()
        if self._fault_since is None:
            self._fault_since = now
            text = "a fault of one MPS client has ended the work of all, nobody is admitted until they have gone"
            return self._troubled(FAULT, f"{self._name}: {text}; {self._offender.text(self._node.slices())}")
        if now - self._fault_since >= FAULT_PATIENCE_S:
            await self._clear(faulty)
        return []

    def _note_recovery(self) -> list[Incident]:
        if self._fault_since is None:
            return []
        text = f"{self._name}: the MPS server serves again; {self._offender.text(self._node.slices())}"
        self._fault_since, self.trouble = None, ""
        self._offender.forget()
        return [self._incident(RECOVERED, text, "Normal")]

    async def _clear(self, faulty: list[int]) -> None:
        """The offender first, the others together: one that hangs must not hold up the end of the fault."""
        try:
            pairs = [(server, client) for server in faulty for client in await self.control.clients(server)]
        except MpsError as error:
            log.warning("clients of a faulty MPS server not ended", gpus=self.uuids, error=str(error))
            return
        first = [pair for pair in pairs if pair[1] == self._offender.pid]
        for group in (first, [pair for pair in pairs if pair not in first]):
            await asyncio.gather(*(self._end(server, client) for server, client in group))

    async def _end(self, server: int, client: int) -> None:
        await self._node.clients.end(client, partial(self._terminate, server, client))

    async def _terminate(self, server: int, client: int) -> None:
        try:
            await asyncio.wait_for(self.control.terminate_client(server, client), TERMINATE_S)
        except (TimeoutError, MpsError) as error:
            log.warning("terminate_client", gpus=self.uuids, pid=client, error=str(error) or "took too long")

    @property
    def _name(self) -> str:
        return f"GPU{'s' if len(self.uuids) > 1 else ''} {', '.join(self.uuids)}"

    def _troubled(self, reason: str, text: str) -> list[Incident]:
        """Told once, however long it lasts."""
        known, self.trouble = self.trouble, text
        return [] if known else [self._incident(reason, text)]

    def _incident(self, reason: str, text: str, kind: str = "Warning") -> Incident:
        """On each pod once."""
        pods: dict[str, str] = {}
        for item in self.slices:
            pods.setdefault(item.pod_uid, item.id)
        return Incident(self.uuids[0], reason, text, tuple(pods.values()), self.uuids[1:], kind)
