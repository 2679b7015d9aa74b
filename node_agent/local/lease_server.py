"""The unix socket on which leases are asked for. Who asks is what the kernel says of the connection (SO_PEERCRED)."""

import asyncio
import socket
import struct
from pathlib import Path

import structlog

from tessera.node_agent.local import wire
from tessera.node_agent.local.leases import Lease, Leases
from tessera.reasons import Code, Reason

log = structlog.get_logger()

EVERYBODY, OWNER = 0o666, 0o600
_PEER = struct.Struct("iII")
_ASK_S = 10.0
_SWEEP_S = 1.0


class LeaseServer:
    """``mode``: who may connect, by the rights of the socket's file. ``held_by``: what clients are told."""

    def __init__(self, path: Path, leases: Leases, held_by: str, mode: int = OWNER) -> None:
        self._path, self._leases, self._held_by, self._mode = path, leases, held_by, mode
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns once leases are given. Raises ``OSError``."""
        await self._leases.sweep()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Under its name only once it listens: whoever waits for the file may connect.
        coming = self._path.with_name(f".{self._path.name}")
        coming.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, coming, limit=wire.LONGEST)
        coming.chmod(self._mode)
        coming.rename(self._path)

    async def run(self) -> None:
        """Looks after the leases of an agent that was there before, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._leases.sweep()
            except Exception:
                log.exception("a round failed; the next one comes", work="leases")

    async def all_ended(self) -> None:
        """Returns when nothing is leased."""
        await self._leases.all_ended()

    async def stop(self) -> None:
        """Gives no more leases. Those that are held go on: the agent that comes next looks after them."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError) as error:
            log.info("a client of the lease socket is gone", error=str(error))
        finally:
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket = writer.get_extra_info("socket")
        pid, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        try:
            async with asyncio.timeout(_ASK_S):
                asked = wire.question(await reader.readline())
        except (ValueError, asyncio.LimitOverrunError) as error:
            await _say(writer, wire.Refused(Code.INVALID_REQUEST, str(error)))
            return
        if isinstance(asked, wire.Join):
            refused = await self._leases.join(asked.lease, uid, pid)
            await _say(writer, _refused(refused) if refused else wire.Joined())
            return
        lease = await self._leases.take(asked.limits, asked.annotations, uid, pid)
        if isinstance(lease, Reason):
            await _say(writer, _refused(lease))
        else:
            await self._hold(lease, reader, writer)

    async def _hold(self, lease: Lease, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client hangs up. An agent that stops leaves the lease as it is."""
        try:
            await _say(writer, self._granted(lease))
            while await reader.read(wire.LONGEST):
                pass
        except OSError as error:
            log.info("the client of a lease is gone", lease=lease.slice.id, error=str(error))
        await asyncio.shield(self._leases.end(lease.slice.id))

    def _granted(self, lease: Lease) -> wire.Granted:
        item, edits = lease.slice, lease.edits
        gpus = tuple(wire.GpuShare(s.uuid, s.mem_bytes, s.core_percent) for s in item.shares)
        mounts = tuple(wire.MountPlan(m.host_path, m.container_path, m.options, m.type) for m in edits.mounts)
        return wire.Granted(item.id, edits.level, self._held_by, gpus, dict(edits.env), mounts)


def _refused(reason: Reason) -> wire.Refused:
    return wire.Refused(reason.code, reason.text)


async def _say(writer: asyncio.StreamWriter, message: wire.Answer) -> None:
    writer.write(wire.encode(message))
    await writer.drain()
