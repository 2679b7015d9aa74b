"""``tessera scheduler`` as a process of its own, and what the kernel says of it."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks.connection import HttpError, Target, open_connection
from benchmarks.control_plane import NAMESPACE, ControlPlane
from tests.e2e.cluster.addresses import free_ports

START_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
TESSERA = str(Path(sys.executable).with_name("tessera"))


class Extender:
    """A running scheduler. ``target`` is where the verbs are."""

    def __init__(self, process: asyncio.subprocess.Process, target: Target, began: float) -> None:
        self.target, self.began, self._process = target, began, process

    def cpu_s(self) -> float:
        """User and system time so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mib(self, field: str = "VmRSS") -> float:
        """Resident memory, or its peak as ``VmHWM``."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    async def first_answer_s(self, question: bytes) -> float:
        """Seconds from the start of the process until filter answers without an error."""
        while time.monotonic() < self.began + START_S:
            if self._process.returncode is not None:
                raise RuntimeError(f"tessera scheduler ended with {self._process.returncode}")
            try:
                connection = await open_connection(self.target)
                answer = msgspec.json.decode(await connection.send("POST", "/filter", question))
                connection.close()
                if not answer["Error"]:
                    return time.monotonic() - self.began
            except (OSError, HttpError):
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError(f"tessera scheduler did not answer within {START_S:g} s")


@asynccontextmanager
async def extender(
    plane: ControlPlane, name: str, more: Mapping[str, object] = MappingProxyType({})
) -> AsyncIterator[Extender]:
    """The scheduler against ``plane``, with its own lease ``name`` and ``more`` options; ended with the block."""
    port, webhook = free_ports(2)
    options = {
        "server": plane.api.url,
        "token-file": plane.token_file,
        "port": port,
        "webhook-port": webhook,
        "lease-namespace": NAMESPACE,
        "lease-name": name,
        "log-level": "warning",
        **more,
    }
    if plane.api.ca:
        options["ca-file"] = plane.api.ca
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(TESSERA, "scheduler", *arguments, start_new_session=True)
    try:
        yield Extender(process, Target(f"http://127.0.0.1:{port}"), began)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
