"""The tensors of a session by handle, and the bytes of their storages."""

from collections.abc import Iterable

import torch

from tessera.remote.executor.quota import Share


class OverLimit(torch.OutOfMemoryError):
    """The session would hold more than its slice."""


class Poisoned(Exception):
    """A tensor that a failed call should have made; the cause is the call's error."""


class Restored(Exception):
    """An error of the executor that the session was on before; ``kind``: its name there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def kind_of(error: BaseException) -> str:
    """What the client knows an error by."""
    if isinstance(error, Restored):
        return error.kind
    return "OutOfMemoryError" if isinstance(error, torch.OutOfMemoryError) else type(error).__name__


class Store:
    """Counts each storage once, however many tensors see it. ``limit_bytes`` 0: no limit.

    ``share``: of what all sessions of a lease may hold together.
    """

    def __init__(self, limit_bytes: int, share: Share | None = None) -> None:
        self.limit_bytes, self._share = limit_bytes, share
        self.used_bytes = self.peak_bytes = 0
        self._held: dict[int, torch.Tensor] = {}
        self._poisoned: dict[int, BaseException] = {}
        self._keys: dict[int, int] = {}
        self._storages: dict[int, list[int]] = {}
        """By key: how many tensors see it, and its bytes."""

    def __len__(self) -> int:
        return len(self._held) + len(self._poisoned)

    def join(self, share: Share) -> None:
        """What is held counts there from now on."""
        self._share = share
        share.hold(self.used_bytes)

    def tensors(self) -> list[tuple[int, torch.Tensor]]:
        return list(self._held.items())

    def poisoned(self) -> list[tuple[int, BaseException]]:
        return list(self._poisoned.items())

    def get(self, handle: int) -> torch.Tensor:
        """Raises ``Poisoned`` and, for a handle that was never given, ``KeyError``."""
        found = self._held.get(handle)
        if found is None:
            raise Poisoned from self._poisoned[handle]
        return found

    def all(self, handles: Iterable[int]) -> list[torch.Tensor]:
        """As ``get`` of each."""
        held = self._held
        try:
            return [held[handle] for handle in handles]
        except KeyError:
            return [self.get(handle) for handle in handles]

    def put(self, handle: int, tensor: torch.Tensor) -> None:
        """Raises ``OverLimit``; the tensor is not kept then."""
        self.drop((handle,))
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._storages.get(key)
        if known is None:
            size = storage.nbytes()
            self.check(size)
            self.used_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)
            self._storages[key] = [1, size]
        else:
            known[0] += 1
        self._held[handle], self._keys[handle] = tensor, key

    def look_again(self, handles: Iterable[int]) -> None:
        """Counts those anew that an operator may have resized. Raises ``OverLimit``; then what does not fit any more is
        poisoned."""
        over: OverLimit | None = None
        for handle in handles:
            tensor = self._held.get(handle)
            if tensor is None:
                continue
            try:
                self._recount(handle, tensor)
            except OverLimit as error:
                over, now = over or error, tensor.untyped_storage()._cdata
                self.poison([handle, *(other for other, its in self._keys.items() if its == now)], error)
        if over is not None:
            raise over

    def _recount(self, handle: int, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata == self._keys[handle]:
            self._grow(storage._cdata, storage.nbytes())
        else:
            self.put(handle, tensor)

    def _grow(self, key: int, size: int) -> None:
        """Raises ``OverLimit``."""
        more_bytes = size - self._storages[key][1]
        if more_bytes > 0:
            self.check(more_bytes)
        self.used_bytes += more_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        self._storages[key][1] = size
        if self._share and more_bytes < 0:
            self._share.hold(self.used_bytes)

    def check(self, more_bytes: int) -> None:
        """Raises ``OverLimit`` where so many more bytes do not fit."""
        if self.limit_bytes and self.used_bytes + more_bytes > self.limit_bytes:
            found = f"{self.used_bytes} are in use and {more_bytes} more were asked for"
            raise OverLimit(f"the slice has {self.limit_bytes} bytes, {found}")
        over = self._share.over(self.used_bytes + more_bytes) if self._share else None
        if over is not None:
            limit_bytes, others = over
            found = f"{self.used_bytes} are in use here and {others} by others, and {more_bytes} more were asked for"
            raise OverLimit(f"the lease has {limit_bytes} bytes, {found}")

    def poison(self, handles: Iterable[int], error: BaseException) -> None:
        for handle in handles:
            self.drop((handle,))
            self._poisoned[handle] = error

    def drop(self, handles: Iterable[int]) -> None:
        for handle in handles:
            key = self._keys.pop(handle, None)
            if key is None:
                self._poisoned.pop(handle, None)
                continue
            del self._held[handle]
            known = self._storages[key]
            known[0] -= 1
            if not known[0]:
                del self._storages[key]
                self.used_bytes -= known[1]
                if self._share:
                    self._share.hold(self.used_bytes)
