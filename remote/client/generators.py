"""``torch.Generator`` of the remote device: it is on the executor, and draws there."""

import weakref
from collections.abc import Callable
from typing import Any

import torch

from tessera.remote.client.handles import Handle, first_number
from tessera.remote.client.tensor import DEVICE
from tessera.remote.protocol import records

DEFAULT_SEED = 67280421310721
"""What a new generator of torch begins with."""
_MARK = 1 << 63
_Generator = torch.Generator
_made: "weakref.WeakValueDictionary[int, RemoteGenerator]" = weakref.WeakValueDictionary()


class RemoteGenerator(torch.Generator):
    """To torch it is a generator of this machine, so that any operator takes it.

    Operators get torch's own object for it, and not this one: the seed of what torch sees tells which it is.
    """

    remote: Any = None
    """The device, once there is one."""
    shown: Any = None
    """What the device is called."""

    def __init__(self, device: Any = None) -> None:
        self.handle = Handle(self.remote.session, first_number())
        super().manual_seed(_MARK + self.handle.number)
        _made[_MARK + self.handle.number] = self
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self) -> Any:
        return self.shown

    def manual_seed(self, seed: int) -> "RemoteGenerator":
        self._seed = seed % (1 << 64)
        self.remote.put(records.Generator(self.handle.number, self._seed))
        return self

    def seed(self) -> int:
        self.manual_seed(_Generator().seed())
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> torch.Tensor:
        return state_of(self.remote, self.handle.number)

    def set_state(self, state: torch.Tensor) -> "RemoteGenerator":
        set_state(self.remote, self.handle.number, state)
        return self

    def clone_state(self) -> "RemoteGenerator":
        copied = RemoteGenerator()
        copied.set_state(self.get_state())
        copied._seed = self._seed
        return copied


def handle_of(generator: torch.Generator) -> Handle:
    """Raises ``RuntimeError`` for one of this machine."""
    found = _made.get(_Generator.initial_seed(generator))
    if found is None:
        raise RuntimeError("generator: found one of this machine; allowed: torch.Generator of the remote device")
    return found.handle


class _Either(type(torch.Generator)):  # type: ignore[misc]
    """Makes the one or the other, and both are instances."""

    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        wanted = cls.mapped(device)
        if isinstance(wanted, torch.device) and wanted.type == DEVICE:
            return RemoteGenerator()
        return _Generator(wanted)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Generator)


def factory(mapped: Callable[[Any], Any]) -> type:
    """What stands for ``torch.Generator``; ``mapped`` says which device a program means."""
    return _Either("Generator", (), {"mapped": staticmethod(mapped), "__module__": "torch"})


def state_of(device: Any, generator: int) -> torch.Tensor:
    """0: the state of the device's own generator."""
    state = Handle(device.session, first_number())
    device.put(records.State(generator, state.number))
    return device.downloaded(state, torch.uint8)


def set_state(device: Any, generator: int, state: torch.Tensor) -> None:
    """The state comes from ``state_of``."""
    if state.dtype is not torch.uint8 or state.device.type != "cpu":
        raise TypeError(f"generator state: found {state.dtype} on {state.device}; allowed: torch.uint8 on cpu")
    sent = device.upload(state)
    device.put(records.Restore(generator, sent._handle.number))
    device.launched()
