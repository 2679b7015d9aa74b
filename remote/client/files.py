"""Files of ``torch.save`` and ``torch.load``: as with CUDA, what was on ``cuda`` when saved is there again.

Both ways tensors go by this machine's memory. The file names their device.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client.tensor import DEVICE, RemoteTensor

Mapped = Callable[[Any], Any]
_BEFORE_OTHERS = 0
"""Torch asks what was registered with the least number first whose storage one is."""


def patch(mapped: Mapped) -> None:
    """For the life of the process. ``mapped``: the device that a program means."""
    torch.serialization.register_package(_BEFORE_OTHERS, _location, lambda storage, location: None)
    torch.load = _loaded(torch.load, mapped)
    torch.UntypedStorage.cuda = _no_storage


def _location(storage: Any) -> str | None:
    device = getattr(storage, "comes_from", None)
    return None if device is None else str(device)


def _no_storage(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("UntypedStorage.cuda: not supported on a remote device; allowed: map_location='cuda'")


class _Locations:
    """A ``map_location`` that loads into this machine's memory, and knows what is to be on the device."""

    def __init__(self, asked: Any, mapped: Mapped) -> None:
        self._asked = asked
        self._mapped = mapped
        self._storages: set[int] = set()

    def __call__(self, storage: Any, location: str) -> Any:
        wanted = self._wanted(location)
        if not self._remote(wanted):
            return torch.serialization.default_restore_location(storage, wanted)
        self._storages.add(storage._cdata)
        return storage

    def _wanted(self, location: str) -> str:
        if self._asked is None:
            return location
        return self._asked.get(location, location) if isinstance(self._asked, dict) else str(self._asked)

    def _remote(self, location: str) -> bool:
        return location.partition(":")[0] in ("cuda", DEVICE) and self._mapped(location) is not None

    def had(self, tensor: torch.Tensor) -> bool:
        return tensor.layout == torch.strided and tensor.untyped_storage()._cdata in self._storages


def _loaded(function: Callable[..., Any], mapped: Mapped) -> Callable[..., Any]:
    @functools.wraps(function)
    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if callable(map_location):
            return function(file, map_location=map_location, **kwargs)
        locations = _Locations(map_location, mapped)
        return _Moved(locations.had, mapped("cuda")).value(function(file, map_location=locations, **kwargs))

    return load


class _Moved:
    """What a file held, with the tensors that go on the device; one object stays one, shared memory is shared."""

    def __init__(self, goes: Callable[[torch.Tensor], bool], device: torch.device) -> None:
        self._goes = goes
        self._device = device
        self._seen: dict[int, Any] = {}
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._memories: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def value(self, value: Any) -> Any:
        """What stands in its place: itself where that can be, with other tensors in it."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value) if self._leaves(value) else value
        if isinstance(value, tuple):
            moved = [self.value(item) for item in value]
            return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved) if type(value) is tuple else value
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self._within(value)
        return value

    def _within(self, value: Any) -> None:
        if isinstance(value, torch.nn.Module):
            value._apply(lambda tensor: self._memory(tensor) if self._leaves(tensor) else tensor)
        elif isinstance(value, dict):
            value.update({key: self.value(item) for key, item in value.items()})
        elif isinstance(value, list):
            value[:] = [self.value(item) for item in value]
        elif type(value).__module__ != "builtins" and hasattr(value, "__dict__") and not callable(value):
            self._within(vars(value))

    def _leaves(self, tensor: torch.Tensor) -> bool:
        return not isinstance(tensor, RemoteTensor) and self._goes(tensor)

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        if id(value) not in self._tensors:
            moved = self._memory(value.detach())
            parameter = isinstance(value, torch.nn.Parameter)
            moved = torch.nn.Parameter(moved, value.requires_grad) if parameter else moved
            self._tensors[id(value)] = value, moved.requires_grad_(value.requires_grad)
        return self._tensors[id(value)][1]

    def _memory(self, value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        key = storage._cdata, value.dtype
        if key not in self._memories:
            self._memories[key] = torch.empty(0, dtype=value.dtype).set_(storage).to(self._device)
        return self._memories[key].as_strided(value.size(), value.stride(), value.storage_offset())
