"""Whether the driver tells the memory of a client of MPS under the client's own process id.

Some drivers put it on the server. Then nobody could say which container is over its limit, so MPS is granted only where
a client of known size was seen to grow by that size.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from tessera.node_agent.enforcement.mps_probe_client import ALLOCATED, CONTEXT

MIB = 1 << 20
SIZE = 192 * MIB
TOLERANCE = 64 * MIB
CLIENT = (sys.executable, "-m", "tessera.node_agent.enforcement.mps_probe_client")
_LOOK_EVERY_S = 0.1

Seen = Callable[[str, int], Awaitable[int | None]]
"""The bytes of a process on a GPU as the driver tells them; ``None``: it tells nothing of the process."""


class Proof:
    """``start_s``: how long the client may take for each step; ``sight_s``: how long the driver may take to tell."""

    def __init__(
        self, seen: Seen, client: tuple[str, ...] = CLIENT, *, start_s: float = 10.0, sight_s: float = 3.0
    ) -> None:
        self._seen, self._client = seen, client
        self._start_s, self._sight_s = start_s, sight_s

    async def prove(self, uuid: str, environment: Mapping[str, str], within: tuple[str, ...] = ()) -> str:
        """Why MPS is not proven on a GPU, or empty. ``environment``: where the daemon is; ``within``: what stands
        before the client's command."""
        pipe = asyncio.subprocess.PIPE
        around = {**os.environ, **environment, "CUDA_VISIBLE_DEVICES": uuid}
        try:
            process = await asyncio.create_subprocess_exec(
                *within, *self._client, str(SIZE), env=around, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
            )
        except OSError as error:
            return f"the probe client cannot be started: {error.strerror or error}"
        try:
            return await self._watch(uuid, process)
        finally:
            await self._end(process)

    async def _watch(self, uuid: str, process: asyncio.subprocess.Process) -> str:
        if failure := await self._step(process, CONTEXT):
            return failure
        before = await self._sight(uuid, process.pid, lambda _: True)
        if before is None:
            return f"the driver tells nothing of the probe client's own process, {process.pid}"
        if failure := await self._step(process, ALLOCATED):
            return failure
        after = await self._sight(uuid, process.pid, lambda told: abs(told - before - SIZE) <= TOLERANCE)
        grown = ((after or 0) - before) // MIB
        if abs(grown * MIB - SIZE) <= TOLERANCE:
            return ""
        return f"the probe client took {SIZE // MIB} MiB and the driver told of {grown} MiB"

    async def _step(self, process: asyncio.subprocess.Process, wanted: str) -> str:
        """Lets the client go on, and waits for its word."""
        assert process.stdin is not None and process.stdout is not None
        try:
            if wanted != CONTEXT:
                process.stdin.write(b"\n")
                await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), self._start_s)
        except (TimeoutError, OSError, ValueError):
            return f"the probe client came to no {wanted!r} within {self._start_s:g} s"
        said = line.decode(errors="replace").strip()
        return "" if said == wanted else f"the probe client failed: {said or 'it ended'}"

    async def _sight(self, uuid: str, pid: int, good: Callable[[int], bool]) -> int | None:
        """What the driver tells, as soon as it is ``good``; else what it told last."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._sight_s
        while True:
            told = await self._seen(uuid, pid)
            if (told is not None and good(told)) or loop.time() >= until:
                return told
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """At the end of its input it goes by itself, and nothing is killed in the middle of its work."""
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), self._sight_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
