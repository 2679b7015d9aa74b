"""Level 1: one MPS daemon for each GPU; a memory limit and a share of the multiprocessors for each client.

The limits of a slice reach its clients by environment; the server's own settings are the ceiling over all slices on the
GPU, so a client that drops its environment gains no more than the largest slice there, and the watcher sees it. Limits
hold for each client, not for a container: the sum is the watcher's.

A fault of one client ends the work of all. The server takes nobody until they have gone: admission to the GPU is closed
meanwhile, and after ``FAULT_PATIENCE_S`` those that remain are ended.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_MPS, LEVEL_WATCH
from tessera.node_agent.enforcement.mps_control import MIB, MpsControl, MpsError
from tessera.node_agent.enforcement.mps_replies import ServerStatus, same_size
from tessera.node_agent.enforcement.port import Edits, EnforcementError, Finding, Incident, Mount
from tessera.node_agent.slices import Slice

log = structlog.get_logger()

PIPE_IN_CONTAINER = "/run/tessera-mps"
FAULT_PATIENCE_S = 2.0
FAULT = "MpsServerFault"
LOST = "MpsDaemonLost"
CHANGED = "MpsSettingChanged"


class Mps:
    """``slices`` answers the slices that are prepared now; ``end`` kills a client's process if it is one of ours."""

    level = LEVEL_MPS

    def __init__(
        self,
        program: str,
        folder: Path,
        slices: Callable[[], Iterable[Slice]],
        end: Callable[[int], Awaitable[bool]],
        *,
        max_clients: int = 48,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._program, self._folder = program, folder
        self._slices, self._end = slices, end
        self._max_clients, self._clock = max_clients, clock
        self._controls: dict[str, MpsControl] = {}
        self._faults: dict[str, float] = {}

    async def detect(self, uuid: str) -> Finding:
        control = self._control(uuid)
        try:
            servers = await control.start()
            if not servers:
                await control.start_server(0)
                servers = await control.servers()
            states = {pid: await control.status(pid) for pid in servers}
        except MpsError as error:
            return Finding(LEVEL_WATCH, f"MPS does not work: {error}")
        if not states or ServerStatus.UNKNOWN in states.values():
            return Finding(LEVEL_WATCH, f"MPS does not work: found servers {states}")
        await self._apply(uuid, control, servers)
        return Finding(LEVEL_MPS, f"an MPS server answers: {', '.join(f'{p} {s}' for p, s in states.items())}")

    async def prepare(self, item: Slice) -> Edits:
        if len(item.shares) > 1:
            # A process reaches one daemon only, and each GPU has its own: such a slice is watched.
            return Edits(LEVEL_WATCH)
        share = item.shares[0]
        control = self._control(share.uuid)
        try:
            await self._set_ceiling(share.uuid, control, await self._admit(share.uuid, control))
        except MpsError as error:
            raise EnforcementError(f"MPS on GPU {share.uuid}: {error}") from None
        return Edits(LEVEL_MPS, _environment(share, item), (Mount(str(control.pipe), PIPE_IN_CONTAINER),))

    async def observe(self) -> tuple[Incident, ...]:
        found: list[Incident] = []
        for uuid, control in list(self._controls.items()):
            try:
                found += await self._look_after(uuid, control)
            except MpsError as error:
                log.warning("MPS", gpu=uuid, error=str(error))
        return tuple(found)

    async def terminate(self, uuid: str, pid: int) -> bool:
        control = self._controls.get(uuid)
        if control is None:
            return False
        try:
            for server in await control.servers():
                if pid in await control.clients(server):
                    await control.terminate_client(server, pid)
                    return True
        except MpsError as error:
            log.warning("terminate_client", gpu=uuid, pid=pid, error=str(error))
        return False

    async def release(self, item: Slice) -> None:
        for share in item.shares:
            control = self._controls.get(share.uuid)
            if control is not None:
                await self._apply(share.uuid, control)

    async def close(self) -> None:
        """Daemons outlive the agent: containers depend on them. Only those without a slice are stopped."""
        used = {share.uuid for item in self._slices() for share in item.shares}
        for uuid, control in self._controls.items():
            if uuid not in used:
                await control.quit()

    def _control(self, uuid: str) -> MpsControl:
        if uuid not in self._controls:
            self._controls[uuid] = MpsControl(self._program, self._folder / uuid, (uuid,))
        return self._controls[uuid]

    async def _admit(self, uuid: str, control: MpsControl) -> tuple[int, ...]:
        servers, clients = await control.start(), 0
        for server in servers:
            if await control.status(server) is ServerStatus.FAULT:
                raise EnforcementError(f"the MPS server of GPU {uuid} is in FAULT until its clients have gone")
            clients += len(await control.clients(server))
        slices = len({item.id for item in self._slices() if any(s.uuid == uuid for s in item.shares)})
        if max(clients, slices - 1) >= self._max_clients:
            raise EnforcementError(f"GPU {uuid} has {self._max_clients} MPS clients, as many as the driver takes")
        return servers

    async def _apply(self, uuid: str, control: MpsControl, servers: tuple[int, ...] | None = None) -> None:
        try:
            await self._set_ceiling(uuid, control, await control.servers() if servers is None else servers)
        except MpsError as error:
            log.warning("MPS ceiling not set", gpu=uuid, error=str(error))

    async def _set_ceiling(self, uuid: str, control: MpsControl, servers: tuple[int, ...]) -> None:
        memory, percent = self._ceiling(uuid)
        if memory:
            await control.set_ceiling(uuid, memory, percent, servers)

    def _ceiling(self, uuid: str) -> tuple[int, int]:
        """The largest memory and percentage of all slices on the GPU; no cap counts as 100 percent."""
        on_gpu = [(item, s) for item in self._slices() if len(item.shares) == 1 for s in item.shares if s.uuid == uuid]
        memory = max((share.mem_bytes for _, share in on_gpu), default=0)
        return memory, max((_percent(item, share) or 100 for item, share in on_gpu), default=100)

    async def _look_after(self, uuid: str, control: MpsControl) -> list[Incident]:
        try:
            servers = await control.servers()
        except MpsError:
            self._faults.pop(uuid, None)
            await self._apply(uuid, control, await control.start())
            return [self._incident(uuid, LOST, "its MPS daemon was gone and has been started again")]
        found = await self._check_ceiling(uuid, control, servers)
        faulty = [server for server in servers if await control.status(server) is ServerStatus.FAULT]
        if not faulty:
            self._faults.pop(uuid, None)
            return found
        now = self._clock()
        if uuid not in self._faults:
            self._faults[uuid] = now
            text = "a fault of one MPS client has ended the work of all on this GPU"
            found.append(self._incident(uuid, FAULT, text))
        elif now - self._faults[uuid] >= FAULT_PATIENCE_S:
            await self._clear(control, faulty)
        return found

    async def _check_ceiling(self, uuid: str, control: MpsControl, servers: tuple[int, ...]) -> list[Incident]:
        memory, _ = self._ceiling(uuid)
        if not memory or same_size(await control.default_memory_limit(uuid), memory):
            return []
        await self._set_ceiling(uuid, control, servers)
        return [self._incident(uuid, CHANGED, "its MPS memory limit was not as set; it has been set again")]

    async def _clear(self, control: MpsControl, faulty: list[int]) -> None:
        for server in faulty:
            for client in await control.clients(server):
                await control.terminate_client(server, client)
                await self._end(client)

    def _incident(self, uuid: str, reason: str, text: str) -> Incident:
        ids = tuple(item.id for item in self._slices() if any(share.uuid == uuid for share in item.shares))
        return Incident(uuid, reason, f"GPU {uuid}: {text}", ids)


def _percent(item: Slice, share: Share) -> int:
    """What a client starts with: it is fixed then, so a burstable one starts at its limit. 0: no cap."""
    if item.qos == "best-effort":
        return 0
    return max(item.core_limit_percent, share.core_percent) if item.qos == "burstable" else share.core_percent


def _environment(share: Share, item: Slice) -> dict[str, str]:
    environment = {
        "CUDA_MPS_PIPE_DIRECTORY": PIPE_IN_CONTAINER,
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{share.uuid}={share.mem_bytes // MIB}M",
    }
    if percent := min(_percent(item, share), 100):
        environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
    return environment
