"""Our spec files in the CDI folder: written just before a container is created, removed once it was.

One-shot: a start without a new PreStart (a kubelet that has just restarted skips it) finds no file and fails. A timer
belongs to one writing of one file, so that it never removes what a later PreStart wrote.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from tessera.device_plugin.slots import SPEC_PREFIX, device_of_file, spec_file
from tessera.durable import Disk, remove_durably, replace_durably, to_the_end

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]


class SpecFiles:
    """Owner of ``tessera.io-slice-*.json`` in ``folder`` and of the slices' information folders under ``info``."""

    def __init__(
        self,
        folder: Path,
        info: Path,
        disk: Disk,
        *,
        settle_s: float = 0.02,
        lifetime_s: float = 8.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._folder = folder
        self._info = info
        self._disk = disk
        self._settle_s = settle_s
        self._lifetime_s = lifetime_s
        self._sleep = sleep
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._starts: dict[str, frozenset[str]] = {}

    def info_dir(self, device: str) -> Path:
        """The host's folder that the container sees as ``/run/tessera``."""
        return self._info / device

    async def arm(self, device: str, spec: Mapping[str, Any], info: bytes | None, former: Iterable[str]) -> None:
        """Writes the spec and returns when a runtime that watches the folder has had time to read it.

        ``info``: what the container reads as ``slice.json``, where its spec mounts the information folder.
        ``former``: the IDs that the container had before this start, as far as they are known; another one means that
        it was created.
        """
        self._cancel(device)
        try:
            await to_the_end(asyncio.to_thread(self._write, device, spec, info))
            await self._sleep(self._settle_s)
        except BaseException:
            self._unlink(device)
            raise
        self._starts[device] = frozenset(former)
        self._timers[device] = asyncio.create_task(self._expire(device))

    def created(self, device: str, container_id: str) -> None:
        """The container of this device has this ID; if it is a new one, the spec has done its work."""
        if container_id and container_id not in self._starts.get(device, (container_id,)):
            self._cancel(device)
            self._unlink(device)

    @property
    def armed(self) -> frozenset[str]:
        """The devices whose spec file waits for its container."""
        return frozenset(self._starts)

    async def remove(self, device: str) -> None:
        """Removes all that stands on disk for a released slice."""
        self._cancel(device)
        await asyncio.to_thread(self._remove, device)

    def sweep(self, awaited: Callable[[str], bool]) -> None:
        """At the start: removes our files of unknown devices, gives the others one lifetime more. Blocking."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._info.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.iterdir()):
            device = device_of_file(path.name)
            if device and awaited(device):
                self._timers[device] = asyncio.create_task(self._expire(device))
            elif device or path.name.startswith(f".{SPEC_PREFIX}"):
                self._disk.unlink(path)
        for path in self._info.iterdir():
            if not awaited(path.name):
                shutil.rmtree(path, ignore_errors=True)

    async def close(self) -> None:
        """Stops the timers; files that wait for their container stay."""
        timers = list(self._timers.values())
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)

    def _write(self, device: str, spec: Mapping[str, Any], info: bytes | None) -> None:
        if info is not None:
            folder = self.info_dir(device)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "slice.json").write_bytes(info)
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_durably(self._disk, self._folder / spec_file(device), json.dumps(spec, indent=1).encode())

    def _remove(self, device: str) -> None:
        remove_durably(self._disk, self._folder / spec_file(device))
        shutil.rmtree(self.info_dir(device), ignore_errors=True)

    async def _expire(self, device: str) -> None:
        await self._sleep(self._lifetime_s)
        self._timers.pop(device, None)
        self._starts.pop(device, None)
        self._unlink(device)

    def _unlink(self, device: str) -> None:
        try:
            self._disk.unlink(self._folder / spec_file(device))
        except OSError as error:
            log.error("spec file not removed", device=device, error=str(error))

    def _cancel(self, device: str) -> None:
        self._starts.pop(device, None)
        with contextlib.suppress(KeyError):
            self._timers.pop(device).cancel()
