"""Files of ``torch.save`` and ``torch.load``: as with CUDA, what was on ``cuda`` when saved is there again.

Both ways tensors go by this machine's memory. The file names their device. A loaded tensor becomes one of the device in
its place, so whatever holds it, or has it as a key, goes on to.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client.tensor import DEVICE

Mapped = Callable[[Any], Any]
_BEFORE_OTHERS = 0
"""Torch asks what was registered with the least number first whose storage one is."""

_REBUILDERS = ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state")
"""Of ``torch._utils``: they make the tensors of a file."""


class _Loading(threading.local):
    """The load of this thread, if one is going on that brings tensors to the device."""

    locations: "_Locations | None" = None


_loading = _Loading()


def patch(mapped: Mapped) -> None:
    """For the life of the process. ``mapped``: the device that a program means."""
    torch.serialization.register_package(_BEFORE_OTHERS, _location, lambda storage, location: None)
    for name in _REBUILDERS:
        setattr(torch._utils, name, _noted(getattr(torch._utils, name)))
    torch.load = _loaded(torch.load, mapped)
    torch.jit.load = _script_loaded(torch.jit.load)
    torch.UntypedStorage.cuda = _no_storage


def _location(storage: Any) -> str | None:
    device = getattr(storage, "comes_from", None)
    return None if device is None else str(device)


def _no_storage(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("UntypedStorage.cuda: not supported on a remote device; allowed: map_location='cuda'")


class _Locations:
    """A ``map_location`` that loads into this machine's memory, and knows what is to be on the device."""

    def __init__(self, asked: Any, mapped: Mapped) -> None:
        self.asked = asked
        self._mapped = mapped
        self._storages: dict[int, Any] = {}
        self._tensors: list[torch.Tensor] = []
        self._memories: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def __call__(self, storage: Any, location: str) -> Any:
        wanted = self._wanted(location)
        if not self._remote(wanted):
            return torch.serialization.default_restore_location(storage, wanted)
        self._storages[storage._cdata] = storage
        return storage

    def _wanted(self, location: str) -> str:
        if self.asked is None:
            return location
        return self.asked.get(location, location) if isinstance(self.asked, dict) else str(self.asked)

    def _remote(self, location: str) -> bool:
        return location.partition(":")[0] in ("cuda", DEVICE) and self._mapped(location) is not None

    def note(self, tensor: Any) -> None:
        stored = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
        if stored and tensor.untyped_storage()._cdata in self._storages:
            self._tensors.append(tensor)

    def move(self) -> None:
        """What was noted, once the bytes of all of it are there."""
        for tensor in self._tensors:
            tensor.data = self._memory(tensor.detach())

    def _memory(self, tensor: torch.Tensor) -> torch.Tensor:
        """Its place in what it shares with others."""
        storage = tensor.untyped_storage()
        key = storage._cdata, tensor.dtype
        if key not in self._memories:
            whole = torch.empty(0, dtype=tensor.dtype).set_(storage)
            self._memories[key] = whole.to(self._mapped("cuda"))
        there = self._memories[key].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        there = there.conj_physical() if tensor.is_conj() else there
        return there.neg() if tensor.is_neg() else there


def _noted(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def rebuild(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        if _loading.locations is not None:
            _loading.locations.note(made)
        return made

    return rebuild


def _loaded(function: Callable[..., Any], mapped: Mapped) -> Callable[..., Any]:
    @functools.wraps(function)
    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(map_location, str | torch.device):
            wanted = mapped(map_location)
            elsewhere = not isinstance(wanted, torch.device) or wanted.type != DEVICE
        else:
            elsewhere = callable(map_location)
        if elsewhere:
            return function(f, map_location, *args, **kwargs)
        before, _loading.locations = _loading.locations, _Locations(map_location, mapped)
        try:
            value = function(f, _loading.locations, *args, **kwargs)
            _loading.locations.move()
        finally:
            _loading.locations = before
        return value

    return load


def _script_loaded(function: Callable[..., Any]) -> Callable[..., Any]:
    """To which ``torch.load`` leaves what is TorchScript's."""

    @functools.wraps(function)
    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        asked = map_location.asked if isinstance(map_location, _Locations) else map_location
        return function(f, asked, *args, **kwargs)

    return load
