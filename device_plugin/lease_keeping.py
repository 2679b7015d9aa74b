"""Keeps what containers read of their leases up to date while they run: executors are replaced and moved, and leases
end."""

from typing import Protocol

from tessera.device_plugin.cluster import ClusterError
from tessera.device_plugin.lease_dirs import AuthorityError, LeaseDirs
from tessera.device_plugin.leases import Lease, ended, usable
from tessera.device_plugin.slices import Book, Holder, Slice


class Leases(Protocol):
    """The GPULeases of this node's containers."""

    def watched(self, key: str) -> Lease | None:
        """The lease as the watch last told it, which may be late, and knows none before it began."""

    async def read(self, namespace: str, name: str) -> Lease | None:
        """A live read. Raises ``ClusterError``."""


class LeaseKeeping:
    """For the containers in ``book``, on ``node``."""

    def __init__(self, node: str, book: Book, leases: Leases, dirs: LeaseDirs) -> None:
        self._node = node
        self._book = book
        self._leases = leases
        self._dirs = dirs

    async def refresh(self) -> None:
        """Brings every container's files to what its lease says, as far as an executor serves it, or to its end. One
        that fails does not hold up the others. Raises ``OSError``, ``AuthorityError``, ``ClusterError``."""
        failed: Exception | None = None
        for item in self._book:
            if item.holder is not None and item.lease:
                try:
                    await self._bring(item, item.holder)
                except (OSError, AuthorityError, ClusterError) as error:
                    failed = failed or error
        if failed:
            raise failed

    async def _bring(self, item: Slice, holder: Holder) -> None:
        key = f"{holder.namespace}/{item.lease}"
        watched, told = self._leases.watched(key), await self._dirs.told(item.device)
        if told and not told.over and ended(watched, key, told.server_name, holder):
            # The end is for good, so it is not written before the API server says it now.
            why = ended(await self._leases.read(holder.namespace, item.lease), key, told.server_name, holder)
            if why:
                await self._dirs.end(item.device, told.server_name, why)
            return
        lease = usable(watched, key, holder, self._node)
        if isinstance(lease, Lease) and lease.serves and lease.attached and lease.attached.device == item.device:
            await self._dirs.refresh(item.device, lease)
