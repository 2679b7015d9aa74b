"""The book and its journal as one, one writer at a time.

A slice is counted in memory before its file is written, and no caller gets an answer before the file is on disk: so
memory never holds less than the disk, whatever fails or is cancelled in between.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tessera.device_plugin.journal import Journal
from tessera.device_plugin.slices import Book, Slice
from tessera.durable import to_the_end


def random_nonce() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


class SliceStore:
    """Owner of the book. ``broken``: by device name, a sentence for each slice whose journal file cannot be read."""

    def __init__(self, journal: Journal, nonce: Callable[[], str] = random_nonce) -> None:
        self._journal = journal
        self._nonce = nonce
        self._lock = asyncio.Lock()
        slices, self.broken = journal.load()
        self.book = Book(slices)
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Returns when a slice was claimed or released next."""
        await self._changed.wait()

    async def allocate(self, slot: str) -> Slice:
        """A fresh device name for the slot, on disk. Raises ``ValueError`` for a foreign slot, ``OSError``."""
        async with self._lock:
            item = self.book.fresh(slot, self._nonce())
            await self.save(item)
            return item

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator["Claims"]:
        """Check and claim as one step: nobody else changes the book meanwhile."""
        async with self._lock:
            yield Claims(self)

    async def release(self, device: str) -> None:
        """Forgets a slice that holds nothing any more."""
        async with self._lock:
            await to_the_end(asyncio.to_thread(self._journal.remove, device))
            self.book.drop(device)
            self.broken.pop(device, None)
            self._wake()

    async def save(self, item: Slice) -> None:
        """Counts and writes one slice; call only with the lock held."""
        self.book.put(item)
        await to_the_end(asyncio.to_thread(self._journal.save, item))
        if item.holder is not None:
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Claims:
    """The right to change the book, held within ``SliceStore.exclusive``."""

    def __init__(self, store: SliceStore) -> None:
        self._store = store
        self.book = store.book

    async def claim(self, item: Slice) -> None:
        """Writes a slice with its holder."""
        await self._store.save(item)
