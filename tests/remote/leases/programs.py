"""Containers that run their command, with the mounts and variables that CDI gave them, the pod's token, and nothing
else of ours."""

import asyncio
import os
import signal
from pathlib import Path

from tessera.simulator.kubelet import RunningContainer, SimContainer
from tests.integration.device_plugin.client_host import ReluctantRuntime

_ENTER = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
while [ "$1" != -- ]; do
    mkdir -p "$2"
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
    shift 2
done
shift
cd /
exec "$@"
"""


class Program:
    """One that runs; ``lines`` is what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self._ended = asyncio.create_task(self._read())

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self.wait()

    async def _read(self) -> int:
        assert self._process.stdout
        async for line in self._process.stdout:
            self.lines.append(line.decode().strip())
        return await self._process.wait()


class Programs(ReluctantRuntime):
    """``programs`` are all that were started, in order. ``secrets``: the folder of the pods' tokens."""

    def __init__(self, secrets: Path) -> None:
        super().__init__()
        self._secrets = secrets
        self.programs: list[Program] = []

    async def start(self, container: SimContainer) -> RunningContainer:
        rootless = ["--map-root-user"] if os.getuid() else []
        mounts = [path for mount in container.mounts for path in (mount["hostPath"], mount["containerPath"])]
        mounts += [str(self._secrets), "/var/run/secrets/tessera"]
        process = await asyncio.create_subprocess_exec(
            *["unshare", "--mount", "--propagation", "private", *rootless, "--"],
            *["sh", "-c", _ENTER, "sh", *mounts, "--", *container.spec["command"]],
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **container.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(container)
        self.programs.append(Program(process))
        return self.programs[-1]
