"""Keeps what containers read of their leases up to date while they run: executors are replaced and moved."""

from collections.abc import Callable

from tessera.device_plugin.lease_dirs import LeaseDirs
from tessera.device_plugin.leases import Lease, usable
from tessera.device_plugin.slices import Book, Slice


class LeaseKeeping:
    """``watched``: the lease of a key as the watch last told it."""

    def __init__(self, node: str, book: Book, watched: Callable[[str], Lease | None], dirs: LeaseDirs) -> None:
        self._node = node
        self._book = book
        self._watched = watched
        self._dirs = dirs

    async def refresh(self) -> None:
        """Brings every container's files to what its lease says, as far as an executor serves it. Raises ``OSError``,
        ``AuthorityError``."""
        for item in self._book:
            lease = self._lease_of(item)
            if lease:
                await self._dirs.refresh(item.device, lease)

    def _lease_of(self, item: Slice) -> Lease | None:
        if item.holder is None or not item.lease:
            return None
        key = f"{item.holder.namespace}/{item.lease}"
        lease = usable(self._watched(key), key, item.holder, self._node)
        mine = isinstance(lease, Lease) and lease.attached is not None and lease.attached.device == item.device
        return lease if isinstance(lease, Lease) and mine and lease.serves else None
