"""One MPS control daemon: started, asked and stopped through nvidia-cuda-mps-control.

Commands go to its standard input; ``-d`` starts a daemon for the pipe folder of the environment. Every call has a time
limit and raises ``MpsError`` with the program's own words.
"""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tessera.node_agent.enforcement.mps_commands import Commands
from tessera.node_agent.enforcement.mps_replies import (
    Context,
    ServerStatus,
    contexts_of,
    error_of,
    percent_of,
    pids_of,
    status_of,
)
from tessera.node_agent.enforcement.shm_group import GroupShm
from tessera.node_agent.enforcement.shm_mounting import FAILED

MIB = 1 << 20
_PID_FILE = "nvidia-cuda-mps-control.pid"
_COMM = "nvidia-cuda-mps"
"""As much of the daemon's name as the kernel keeps."""


class MpsError(Exception):
    """The control program is missing, does not answer, or complains."""


class MpsRefused(MpsError):
    """The control program complains."""


class MpsAbsent(MpsRefused):
    """No daemon runs at this pipe folder."""


class MpsControl:
    """The daemon of one pipe folder, which serves the GPUs in ``uuids`` and nothing else. ``flags``: for its start;
    ``shm``: what it has at /dev/shm, ``None``: the agent's own."""

    flags: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        program: str,
        folder: Path,
        uuids: tuple[str, ...],
        timeout_s: float = 5.0,
        shm: GroupShm | None = None,
    ) -> None:
        self.pipe, self.log = folder / "pipe", folder / "log"
        self.uuids, self.shm = uuids, shm
        self.commands = Commands(self.log / "control.log")
        self._program, self._timeout_s = program, timeout_s

    @property
    def environment(self) -> Mapping[str, str]:
        """What the daemon sees: its folders and GPUs, by UUID."""
        folders = {"CUDA_MPS_PIPE_DIRECTORY": str(self.pipe), "CUDA_MPS_LOG_DIRECTORY": str(self.log)}
        return {**folders, "CUDA_VISIBLE_DEVICES": ",".join(self.uuids)}

    async def start(self) -> tuple[int, ...]:
        """Starts the daemon, or leaves one that runs as it is; answers its servers."""
        with contextlib.suppress(MpsAbsent):
            servers = await self.servers()
            if await self.has_other_shm():
                raise MpsError("the daemon has another /dev/shm; it is started anew once no slice depends on it")
            return servers
        await self._mount_shm()
        for folder in (self.pipe, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        # Without the flag, clients of a second user wait until those of the first have gone; old drivers lack it.
        for arguments in (["-d", *self.flags, "-multiuser-server"], ["-d", *self.flags]):
            await self._launch(arguments)
            with contextlib.suppress(MpsAbsent):
                return await self.servers()
        raise MpsError(f"{self._program} -d: the daemon does not answer; see {self.log}")

    async def servers(self) -> tuple[int, ...]:
        """Process ids of the servers."""
        return await self._pids("get_server_list")

    async def status(self, server: int) -> ServerStatus:
        return status_of(await self._ask(f"get_server_status {server}"))

    async def clients(self, server: int) -> tuple[int, ...]:
        """Process ids of a server's clients, as the host numbers them."""
        return await self._pids(f"get_client_list {server}")

    async def start_server(self, uid: int) -> None:
        await self._ask(f"start_server -uid {uid}")

    async def contexts(self) -> tuple[Context, ...]:
        """The contexts of all clients, one for each GPU that a client uses; empty where this driver has no ``ps``."""
        try:
            return contexts_of(await self._ask("ps"))
        except MpsRefused:
            return ()

    async def memory_limits(self, uuid: str, servers: tuple[int, ...]) -> tuple[str, ...]:
        """The ceilings as printed, which are rounded (compare with ``same_size``): of servers to come, and of each."""
        commands = [f"get_default_device_pinned_mem_limit {uuid}"]
        commands += [f"get_device_pinned_mem_limit {server} {uuid}" for server in servers]
        return tuple([await self._ask(command) for command in commands])

    async def percents(self, servers: tuple[int, ...]) -> tuple[float | None, ...]:
        """The most percent of the multiprocessors that a client is given: of servers to come, and of each."""
        commands = ["get_default_active_thread_percentage"]
        commands += [f"get_active_thread_percentage {server}" for server in servers]
        return tuple([percent_of(await self._ask(command)) for command in commands])

    async def set_ceiling(self, memory: Mapping[str, int], percent: int | None, servers: tuple[int, ...]) -> None:
        """The most that a client of ``servers``, and of servers to come, is given from now on: bytes by UUID, in whole
        MiB, and percent, unless ``None``."""
        commands = []
        if percent is not None:
            commands.append(f"set_default_active_thread_percentage {percent}")
            commands += [f"set_active_thread_percentage {server} {percent}" for server in servers]
        for uuid, mem_bytes in memory.items():
            size = f"{mem_bytes // MIB}M"
            commands.append(f"set_default_device_pinned_mem_limit {uuid} {size}")
            commands += [f"set_device_pinned_mem_limit {server} {uuid} {size}" for server in servers]
        # Such commands answer what was set, nothing, or a complaint: they can go together.
        await self._ask("\n".join(commands))

    async def terminate_client(self, server: int, client: int) -> None:
        """Ends a client's work in an orderly way, so that killing it afterwards harms nobody."""
        self.commands.note(server, client)
        await self._ask(f"terminate_client {server} {client}")

    async def quit(self) -> None:
        """Stops the daemon; one that does not run is no error."""
        with contextlib.suppress(MpsError):
            await self._ask("quit")

    async def stop(self) -> bool:
        """``quit``, and whether no daemon is left."""
        await self.quit()
        stopped = await self.is_gone()
        if stopped and self.shm:
            await self.shm.unmount()
        return stopped

    async def is_gone(self) -> bool:
        """Whether there is no daemon, for certain."""
        try:
            await self.servers()
        except MpsAbsent:
            return True
        except MpsError:
            return not self.pipe.exists()
        return False

    async def has_other_shm(self) -> bool:
        """Whether a daemon that runs was started with another /dev/shm than that of the containers."""
        return self.shm is not None and not await self.shm.is_daemons()

    def kill(self) -> bool:
        """Kills a daemon that does not answer; says whether it is gone. Blocks for a second at most."""
        try:
            pid = int((self.pipe / _PID_FILE).read_text())
            handle = os.pidfd_open(pid)
        except (OSError, ValueError, OverflowError):
            return False
        try:
            if not Path(f"/proc/{pid}/comm").read_text().startswith(_COMM):
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            return bool(select.select([handle], [], [], 1.0)[0])
        except OSError:
            return False
        finally:
            os.close(handle)

    async def _mount_shm(self) -> None:
        try:
            if self.shm:
                await self.shm.mount_for_daemon()
        except OSError as error:
            raise MpsError(f"the group's /dev/shm: {error}") from None

    async def _pids(self, command: str) -> tuple[int, ...]:
        reply = await self._ask(command)
        pids = pids_of(reply)
        if pids is None:
            raise MpsError(f"{command}: found {reply.strip()[:80]!r}; allowed: process ids")
        return pids

    async def _ask(self, command: str) -> str:
        reply = await self._run([], f"{command}\n")
        if complaint := error_of(reply):
            raise _refusal(complaint)(f"{command}: {complaint}")
        return reply

    async def _launch(self, arguments: list[str]) -> None:
        """The daemon keeps what it inherits, so it is given nothing that we would wait for."""
        null, group = asyncio.subprocess.DEVNULL, True
        within = self.shm.within if self.shm else ()
        process = await self._spawn(
            arguments, within=within, stdin=null, stdout=null, stderr=null, start_new_session=group
        )
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(process.wait(), self._timeout_s) == FAILED and within:
                raise MpsError("the daemon cannot be given the group's /dev/shm")

    async def _run(self, arguments: list[str], text: str) -> str:
        pipe = asyncio.subprocess.PIPE
        process = await self._spawn(arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        try:
            output, _ = await asyncio.wait_for(process.communicate(text.encode()), self._timeout_s)
        except TimeoutError:
            raise MpsError(f"{self._program}: no answer within {self._timeout_s:g} s") from None
        finally:
            # Also where the caller gives up: a program that hangs would stay for ever.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        reply = output.decode(errors="replace")
        if process.returncode:
            text = error_of(reply) or reply.strip() or f"exit status {process.returncode}"
            raise _refusal(text)(f"{self._program}: {text}")
        return reply

    async def _spawn(
        self, arguments: list[str], within: tuple[str, ...] = (), **options: Any
    ) -> asyncio.subprocess.Process:
        environment = {**os.environ, **self.environment}
        command = *within, self._program, *arguments
        try:
            return await asyncio.create_subprocess_exec(*command, env=environment, **options)
        except OSError as error:
            raise MpsError(f"{self._program}: {error.strerror or error}") from None


def _refusal(text: str) -> type[MpsRefused]:
    return MpsAbsent if "cannot find mps control daemon" in text.lower() else MpsRefused
