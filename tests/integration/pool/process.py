"""``tessera pool-controller`` in a process of its own, which can be killed."""

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tessera.kube.connection import plain
from tessera.kube.errors import KubeError
from tessera.kube.transport import Transport
from tessera.remote.controller.settings import ControllerSettings

_TESSERA = Path(sys.executable).with_name("tessera")
_GIVEN = (
    "server", "host", "port", "metrics_port", "executor_image", "gate_image", "executor_device", "controller_address",
    "gate_port", "identity",
)  # fmt: skip


class ControllerProcess:
    """Between ``start`` and ``kill`` there is one; it may be started again."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._command = [str(_TESSERA), "pool-controller"]
        for name in _GIVEN:
            self._command += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
        self._url = f"http://127.0.0.1:{settings.metrics_port}"
        self._child: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Returns when it leads."""
        environment = {**os.environ, "TESSERA_LOG_LEVEL": "warning"}
        self._child = await asyncio.create_subprocess_exec(*self._command, env=environment)
        async with Transport(plain(self._url)) as web:
            async with asyncio.timeout(60):
                while not await _ready(web):
                    assert self._child.returncode is None, f"it ended with status {self._child.returncode}"
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """Without a word."""
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def end(self) -> int:
        """By SIGTERM; its exit status."""
        assert self._child is not None
        self._child.terminate()
        return await asyncio.wait_for(self._child.wait(), 30)


async def _ready(web: Transport) -> bool:
    try:
        return await web.send("GET", "/readyz", timeout_s=5) == b"ok"
    except KubeError:
        return False
