"""Registers with the kubelet, and again whenever the kubelet's socket is a new one or nobody listens to us.

A glance at two files every 50 ms finds a restarted kubelet well before it re-admits its pods, which it refuses while
the resource has no devices; unlike inotify it cannot lose an event.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from tessera.device_plugin.server import OPTIONS, SOCKET, PluginSocket
from tessera.device_plugin.slots import CDI_KIND
from tessera.pb.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

log = structlog.get_logger()

KUBELET_SOCKET = "kubelet.sock"
VERSION = "v1beta1"
POLL_S = 0.05
CALL_TIMEOUT_S = 5.0
UNHEARD_S = 5.0
"""A kubelet that registered us and does not listen has lost us."""

Mark = tuple[int, int]


class Registration:
    """Keeps us registered. ``registered``: how often the kubelet accepted us."""

    def __init__(
        self,
        folder: Path,
        socket: PluginSocket,
        ready: Callable[[], bool],
        on_registered: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubelet = folder / KUBELET_SOCKET
        self._socket = socket
        self._ready = ready
        self._on_registered = on_registered
        self._clock = clock
        self._mark: Mark | None = None
        self._heard_at = 0.0
        self.registered = 0

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            if self._ready():
                try:
                    await self.look()
                except OSError as error:
                    log.warning("plugin socket", error=str(error))
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """One glance. Raises ``OSError`` if our own socket cannot be made."""
        if not self._socket.present:
            await self._socket.start()
            self._mark = None
        mark = _mark(self._kubelet)
        if self._socket.streams:
            self._heard_at = self._clock()
        if mark is None:
            self._mark = None
        elif mark != self._mark or self._clock() - self._heard_at > UNHEARD_S:
            await self._register(mark)

    async def _register(self, mark: Mark) -> None:
        request = api_pb2.RegisterRequest(
            version=VERSION,
            endpoint=SOCKET,
            resource_name=CDI_KIND,
            options=api_pb2.DevicePluginOptions(**OPTIONS),
        )
        try:
            async with grpc.aio.insecure_channel(f"unix://{self._kubelet.absolute()}") as channel:
                stub = api_pb2_grpc.RegistrationStub(channel)  # type: ignore[no-untyped-call]
                await stub.Register(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.info("kubelet not ready to register", code=error.code().name, details=error.details())
            return
        self._mark = mark
        self._heard_at = self._clock()
        self.registered += 1
        log.info("registered with the kubelet", times=self.registered)
        self._on_registered()


def _mark(path: Path) -> Mark | None:
    """What tells one socket file from the next at the same path."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
