"""The folders that containers with a slice on another node read at each connect: ``lease.json`` and ``ca.crt``.

A container has its folder mounted, so files in it are replaced, each in one step, and never the folder itself. Of one
lease, an epoch that was written is never followed by an older one, and its end by nothing, whoever heard of which
first.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from tessera.device_plugin.agent import GpuProcess
from tessera.device_plugin.leases import Lease, Told, lease_file, over_file, told_in
from tessera.durable import Disk, replace_durably, to_the_end

FILE = "lease.json"
AUTHORITY = "ca.crt"


class AuthorityError(Exception):
    """The pool's certificate authority is not known on this node; the text names the file."""


class LeaseDirs:
    """Owner of ``folder``, with a folder in it for each device. ``authority``: the file with the pool's certificate."""

    def __init__(self, folder: Path, authority: Path, disk: Disk) -> None:
        self._folder = folder
        self._authority = authority
        self._disk = disk
        self._lock = asyncio.Lock()

    def path(self, device: str) -> Path:
        """The host's folder that the container sees."""
        return self._folder / device

    async def put(self, device: str, lease: Lease) -> None:
        """Writes both files before the container starts, also where they are another lease's. Raises ``OSError``,
        ``AuthorityError``."""
        async with self._lock:
            told = await asyncio.to_thread(self._told, device)
            newer = told is None or told.server_name != lease.known.server_name or told.older_than(lease)
            await to_the_end(asyncio.to_thread(self._put, device, lease, newer))

    async def refresh(self, device: str, lease: Lease) -> None:
        """Brings the files up to date, of a container that has them. Raises as ``put``."""
        async with self._lock:
            if self.path(device).is_dir():
                told = await asyncio.to_thread(self._told, device)
                await to_the_end(asyncio.to_thread(self._put, device, lease, told is None or told.older_than(lease)))

    async def told(self, device: str) -> Told | None:
        """What the container reads now; ``None``: nothing yet. Raises ``OSError``."""
        return await asyncio.to_thread(self._told, device)

    async def end(self, device: str, server_name: str, why: str) -> None:
        """Tells the container for good that the lease of this name is over. Raises ``OSError``."""
        async with self._lock:
            told = await asyncio.to_thread(self._told, device)
            if told and not told.over and told.server_name == server_name:
                await to_the_end(asyncio.to_thread(self._end, device, why))

    async def release(self, device: str) -> None:
        """Removes what a released slice had. Raises ``OSError``."""
        async with self._lock:
            await asyncio.to_thread(shutil.rmtree, self.path(device), ignore_errors=True)

    async def usage(self) -> list[GpuProcess]:
        """None: there are no GPUs here that a former process could hold."""
        return []

    def sweep(self, known: Callable[[str], bool]) -> None:
        """At the start: removes the folders of unknown devices. Blocking. Raises ``OSError``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if not known(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _told(self, device: str) -> Told | None:
        return told_in(_content(self.path(device) / FILE))

    def _end(self, device: str, why: str) -> None:
        path = self.path(device) / FILE
        self._replace(path, over_file(_content(path), why))

    def _put(self, device: str, lease: Lease, newer: bool) -> None:
        folder = self.path(device)
        certificate = self._certificate()
        folder.mkdir(parents=True, exist_ok=True)
        self._replace(folder / AUTHORITY, certificate)
        if newer:
            self._replace(folder / FILE, lease_file(lease))

    def _certificate(self) -> bytes:
        try:
            found = self._authority.read_bytes()
        except OSError as error:
            raise AuthorityError(f"{self._authority}: {error.strerror}; allowed: the pool's certificate") from None
        if b"-----BEGIN CERTIFICATE-----" not in found:
            raise AuthorityError(f"{self._authority}: found no certificate; allowed: the pool's, as PEM")
        return found

    def _replace(self, path: Path, data: bytes) -> None:
        if _content(path) != data:
            replace_durably(self._disk, path, data)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
