"""One MPS daemon and the GPUs that it serves: whom it admits, and what is done when it fails.

The limits of a slice reach its clients by environment; the server's own settings are the ceiling over all slices of the
group (``mps_ceiling``).

* ``FAULT``: admission is closed until it is over (``mps_faults``).
* Gone: it is started again with its settings. As long as that fails it has no clients, and whoever uses the GPU does so
  outside of it.
* It hangs or talks nonsense: nobody is admitted. Its server may serve on, so it is left alone while a slice depends on
  it; without one it is killed and started anew.
"""

import asyncio
from collections.abc import Mapping

import structlog

from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.mps_ceiling import Ceiling
from tessera.node_agent.enforcement.mps_contexts import on_gpu, taken
from tessera.node_agent.enforcement.mps_control import MpsAbsent, MpsControl, MpsError
from tessera.node_agent.enforcement.mps_environment import environment_of
from tessera.node_agent.enforcement.mps_faults import Faults
from tessera.node_agent.enforcement.mps_node import Node
from tessera.node_agent.enforcement.mps_proven import Proven
from tessera.node_agent.enforcement.mps_reasons import CHANGED, LOST, RECOVERED, SILENT, TERMINATED
from tessera.node_agent.enforcement.mps_replies import ServerStatus
from tessera.node_agent.enforcement.port import EnforcementError, Finding, Incident
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

SILENT_ROUNDS = 2


class MpsGroup:
    """``trouble``: why nobody is admitted, or empty. ``clients``: those of the last look, ``None`` if it failed.
    ``gone``: the last look found no daemon, and none could be started yet. ``worked``: whether slices may rely on it.
    ``percents``: whether its clients have percentages."""

    def __init__(self, uuids: tuple[str, ...], control: MpsControl, node: Node, *, percents: bool = True) -> None:
        self.uuids, self.control, self._node = uuids, control, node
        self._ceiling = Ceiling(control, lambda: self.slices, percents=percents)
        self._faults = Faults(control, node)
        self._starting = asyncio.Lock()
        self._silent_rounds = 0
        self.worked = self.gone = self._retired = False
        self._proven = Proven(control.pipe.with_name("proven"))
        self.trouble = ""
        self.clients: frozenset[int] | None = None
        self._pods: Mapping[int, str] = {}

    @property
    def slices(self) -> list[Slice]:
        """The prepared slices that this daemon holds."""
        own = set(self.uuids)
        inside = (item for item in self._node.slices() if own.issuperset(share.uuid for share in item.shares))
        return [item for item in inside if not item.whole]

    async def detect(self, uuid: str) -> Finding:
        """Whether one of the GPUs is served, and its clients can be watched."""
        found = await self.serve()
        if found.level < LEVEL_MPS:
            return found
        self.worked = True
        if not await self.proven(uuid) and (doubt := await self.doubt(uuid)):
            return Finding(LEVEL_NONE, f"MPS works, but its clients would not be watched: {doubt}")
        return found

    async def serve(self) -> Finding:
        """Starts the daemon and a server if need be; whether they answer."""
        if self.trouble:
            return self.fails(self.trouble)
        try:
            async with self._starting:
                states = await self._start()
        except MpsError as error:
            return self.fails(f"MPS does not work: {error}")
        if not states or ServerStatus.UNKNOWN in states.values():
            return self.fails(f"MPS does not work: found servers {states}")
        await self.apply(tuple(states))
        return Finding(LEVEL_MPS, f"an MPS server answers: {', '.join(f'{p} {s}' for p, s in states.items())}")

    async def proven(self, uuid: str) -> bool:
        """Whether the driver's word on clients is believed; it is with this version, or no proof is asked for."""
        return self._node.proof is None or await asyncio.to_thread(self._proven.holds, uuid, self._node.driver())

    async def doubt(self, uuid: str, environment: Mapping[str, str] | None = None) -> str:
        """Why the driver's word is not believed, or empty; ``environment``: what a client needs beside the daemon's."""
        if self._node.proof is None:
            return ""
        needed = {"CUDA_MPS_PIPE_DIRECTORY": str(self.control.pipe), **(environment or {})}
        within = self.control.shm.within if self.control.shm else ()
        doubt = await self._node.proof.prove(uuid, needed, within)
        if not doubt:
            await asyncio.to_thread(self._proven.add, uuid, self._node.driver())
        return doubt

    async def admit(self, item: Slice) -> Mapping[str, str]:
        """Sets the ceilings for ``item``, which is among the slices already; what its clients need in their
        environment. Raises ``EnforcementError``."""
        if self.trouble:
            raise EnforcementError(self.trouble)
        try:
            servers = await self.control.start()
            for server in servers:
                if await self.control.status(server) is ServerStatus.FAULT:
                    raise EnforcementError(f"the MPS server of {self._name} is in FAULT, nobody is admitted")
            await self._check_contexts(item, servers)
            await self._ceiling.set(servers)
        except MpsError as error:
            raise EnforcementError(f"MPS of {self._name}: {error}") from None
        return environment_of(item, self.uuids)

    async def apply(self, servers: tuple[int, ...] | None = None) -> None:
        """Sets the ceilings anew; one that cannot be set is found by ``observe``."""
        try:
            await self._ceiling.set(await self.control.servers() if servers is None else servers)
        except MpsError as error:
            log.warning("MPS ceiling not set", gpus=self.uuids, error=str(error))

    async def observe(self) -> list[Incident]:
        """One look after the daemon, and what is newly wrong or well again."""
        self.clients = None
        if not self._depended_on:
            return []
        return [*await self._terminated(), *await self._look()]

    async def _look(self) -> list[Incident]:
        try:
            servers = await self.control.servers()
            self.gone = False
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

    def retire(self, retired: bool = True) -> None:
        """It is being stopped for good, so one that is gone is not started again; or it is kept after all."""
        self._retired = retired

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
        return self.worked or (self.control.pipe.exists() and bool(self.slices))

    async def _remember(self, servers: tuple[int, ...]) -> None:
        clients = [client for server in servers for client in await self.control.clients(server)]
        pods = await self._node.clients.pods(clients)
        self._faults.know(pods)
        self._pods = pods
        self.clients = frozenset(clients)

    async def _start(self) -> dict[int, ServerStatus]:
        if not self.slices and await self.control.has_other_shm():
            await self.control.stop()
        servers = await self.control.start()
        self.gone = False
        if not servers:
            await self.control.start_server(0)
            servers = await self.control.servers()
        return {server: await self.control.status(server) for server in servers}

    def fails(self, evidence: str) -> Finding:
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

    async def _terminated(self) -> list[Incident]:
        """Clients that somebody else than this agent has had terminated."""
        victims = await self.control.commands.strange()
        pods = {**self._pods, **await self._node.clients.pods(victims)}
        names = {item.pod_uid: f"pod {item.namespace}/{item.pod}" for item in self.slices}
        whose = [f"{pid} of {names.get(pods.get(pid, ''), 'no pod with a slice')}" for pid in victims]
        text = f"{self._name}: the MPS daemon was told to terminate client {', '.join(whose)}, and not by the agent"
        return [self._incident(TERMINATED, f"{text}: root in a container there can do that")] if whose else []

    async def _check_ceiling(self, servers: tuple[int, ...]) -> list[Incident]:
        held = await self._ceiling.holds(servers)
        if not held or self._ceiling.is_due:
            await self._ceiling.set(servers)
        what = f"{self._name}: an MPS limit was not as set; it has been set again"
        return [] if held else [self._incident(CHANGED, what)]

    async def _revive(self, what: str) -> list[Incident]:
        if self._retired:
            return []
        self._faults.forget()
        try:
            async with self._starting:
                states = await self._start()
            await self._ceiling.set(tuple(states))
        except MpsError as error:
            self.gone = await self.control.is_gone()
            return self._troubled(LOST, f"{what} and cannot be started: {error}")
        self._silent_rounds, self.trouble = 0, ""
        return [self._incident(LOST, f"{what} and has been started again")]

    async def _note_silence(self, error: str) -> list[Incident]:
        self.gone = False
        self._silent_rounds += 1
        if self._silent_rounds < SILENT_ROUNDS:
            return []
        if not self.slices and await asyncio.to_thread(self.control.kill):
            return await self._revive(f"{self._name}: the MPS daemon did not answer and was killed")
        return self._troubled(SILENT, f"{self._name}: the MPS daemon does not answer, nobody is admitted: {error}")

    def _note_answer(self) -> list[Incident]:
        self._silent_rounds = 0
        if not self.trouble or self._faults.lasts:
            return []
        self.trouble = ""
        return [self._incident(RECOVERED, f"{self._name}: the MPS daemon answers again", "Normal")]

    async def _note_faults(self, states: dict[int, ServerStatus]) -> list[Incident]:
        news = await self._faults.look(states)
        if news is None:
            return []
        reason, text = news[0], f"{self._name}: {news[1]}"
        if reason != RECOVERED:
            return self._troubled(reason, text)
        self.trouble = ""
        return [self._incident(reason, text, "Normal")]

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
