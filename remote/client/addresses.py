"""Where tensors lie, as numbers that tell apart and are never memory: programs compare them to find what is shared.

Savers of models do, such as safetensors and transformers. The numbers of a session do not repeat and do not overlap.
"""

import threading
import weakref
from typing import Any

import torch

from tessera.remote.client.handles import Handle

_ALIGNED = 512
_FIRST = 1 << 47
"""Above what this machine's own memory has as addresses."""

_given: "weakref.WeakKeyDictionary[Handle, tuple[int, int]]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_next = _FIRST


def address_of(handle: Handle) -> int:
    """Of the first element; 0 where there is none."""
    spec = handle.spec
    assert spec is not None
    return 0 if 0 in spec.sizes else storage_of(handle)[0] + spec.offset * spec.dtype.itemsize


def storage_of(handle: Handle) -> tuple[int, int]:
    """Address and bytes of what a tensor shares with its views."""
    global _next
    root = handle.base or handle
    with _lock:
        if root not in _given:
            spec = root.spec
            assert spec is not None
            size = spec.extent * spec.dtype.itemsize
            _given[root] = _next, size
            _next += -(-max(size, 1) // _ALIGNED) * _ALIGNED
        return _given[root]


class RemoteStorage(torch.UntypedStorage):
    """Says where the memory is and how much; of what is in it, only the tensor can be asked."""

    _at: tuple[int, int]

    @staticmethod
    def of(handle: Handle) -> "RemoteStorage":
        made: RemoteStorage = RemoteStorage(0, device="meta")
        made._at = storage_of(handle)
        return made

    def data_ptr(self) -> int:
        return self._at[0]

    def nbytes(self) -> int:
        return self._at[1]

    size = __len__ = nbytes

    @property
    def _cdata(self) -> int:
        return self._at[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStorage) and other._at == self._at

    def __hash__(self) -> int:
        return hash(self._at)

    def __getitem__(self, *_: Any) -> Any:
        raise NotImplementedError("untyped_storage: its bytes are on a remote device; read the tensor")

    __setitem__ = resize_ = copy_ = fill_ = tolist = cpu = clone = __getitem__
