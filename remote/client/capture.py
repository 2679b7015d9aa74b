"""A module as one program on the executor: sent once for each signature, then run by one record a call.

``torch.export`` tells whether it can be one. The module then runs once, operator by operator as always, and what it
sent is the program: a run is the very calls of that first one, on other tensors.
"""

import random
import threading
import warnings
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._pytree import tree_flatten

from tessera.remote.client import exporting, trials
from tessera.remote.client.handles import Handle
from tessera.remote.client.programs import Program, Results, defined
from tessera.remote.client.state import State
from tessera.remote.client.tensor import DEVICE, RemoteTensor
from tessera.remote.client.unfit import Unfit

MOST_SIGNATURES = 8
_PLAIN = (bool, int, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


class Call:
    """What the module is called with: ``given``, the handles of its own tensors and then of the arguments', and
    ``key``, which calls of one program have in common. Raises ``Unfit``."""

    __slots__ = ("given", "key", "leaves", "tensors", "tree")

    def __init__(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.leaves, self.tree = tree_flatten((args, kwargs))
        self.tensors = state.tensors()
        self.given = _handles(self.tensors)
        specs = [handle.spec for handle in self.given]
        for leaf in self.leaves:
            specs.append(self._of_tensor(leaf._handle) if type(leaf) is RemoteTensor else _plain(leaf))
        self.key = (self.tree, tuple(specs), state.training(), torch.get_default_dtype(), _function_modes())
        if not self.given:
            raise Unfit("no tensor of it is on the remote device")

    def _of_tensor(self, handle: Handle) -> Any:
        """What tells an argument apart in the key; of one that is given already, where."""
        if handle in self.given:
            return self.given.index(handle)
        self.given.append(handle)
        return handle.spec

    def is_same(self, other: "Call") -> bool:
        return self.key == other.key and self.given == other.given

    @property
    def learns(self) -> bool:
        return any(one.requires_grad for one in (*self.tensors, *self.leaves) if isinstance(one, torch.Tensor))


class Captured:
    """Calls ``module``: as a program where it can be one, else as always, with one warning for each reason."""

    def __init__(self, module: torch.nn.Module) -> None:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module: found {type(module).__name__}; allowed: torch.nn.Module")
        self.module = module
        self._state = State(module)
        self._known: dict[Any, Program | str] = {}
        """By the key of a ``Call``; where it is no program, why."""
        self._told: set[str] = set()
        self._capturing = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if trials.is_trying():  # by a module of which this is a part, and whose program it shall be in
            return self.module(*args, **kwargs)
        try:
            return self._run(args, kwargs)
        except Unfit as why:
            self._tell(str(why), 3)
        return self.module(*args, **kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _check_modes()
        if not self._state.holds():
            self._state, self._known = State(self.module), {}
        if self._state.hooked():
            raise Unfit("a part of it has hooks of its forward pass")
        call = Call(self._state, args, kwargs)
        if torch.is_grad_enabled() and call.learns:
            raise Unfit("it requires gradients; call it under torch.no_grad()")
        program, first = self._sent(call)
        if program is None:
            with self._capturing, trials.trying():
                program, first = self._sent(call)  # another thread may have captured it meanwhile
                if program is None:
                    return self._capture(call, args, kwargs)
        RemoteTensor.remote.launched()
        return program.result(first)

    def _sent(self, call: Call) -> tuple[Program | None, int]:
        """The program that was run for it, and the number of its first value; none, if there is none yet."""
        known = self._known.get(call.key)
        if isinstance(known, str):
            raise Unfit(known)
        first = None if known is None else known.send(call.given)
        return (None, 0) if first is None else (known, first)

    def _capture(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(self._known) >= MOST_SIGNATURES and call.key not in self._known:
            raise Unfit(f"it was called with more than {MOST_SIGNATURES} signatures")
        try:
            exporting.check(self.module, self._state.names, call.tensors, call.leaves, call.tree)
        except Unfit as why:
            self._known[call.key] = str(why)
            raise
        return self._first(call, args, kwargs)

    def _first(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Operator by operator, recorded. What it gives is the result, whether it can be a program or not."""
        device, before = RemoteTensor.remote, trials.Attributes(self.module)
        drawn, drawn_by_python = torch.get_rng_state(), random.getstate()
        for handle in call.given:
            handle.number  # noqa: B018  what is not on the executor yet is no part of the program
        with device.recorded() as recording:
            result = self.module(*args, **kwargs)
            try:
                if not torch.equal(drawn, torch.get_rng_state()) or drawn_by_python != random.getstate():
                    raise Unfit("it draws random numbers")
                if not self._state.holds() or not call.is_same(Call(self._state, args, kwargs)):
                    raise Unfit("it gives parameters, buffers or arguments other tensors")
                if where := before.assigned():
                    raise Unfit(f"it assigns to {where}")
                self._known[call.key] = defined(device, recording, call.given, Results(result, recording))
            except Unfit as why:
                self._known[call.key] = str(why)
                self._tell(str(why), 6)
        return result

    def _tell(self, why: str, level: int) -> None:
        """``level``: how many calls above the program's own call is."""
        if why not in self._told:
            self._told.add(why)
            name = type(self.module).__name__
            warnings.warn(f"tessera.remote.capture: {name} runs operator by operator: {why}", stacklevel=level)


def _check_modes() -> None:
    """Raises ``Unfit``."""
    if RemoteTensor.remote is None:
        raise Unfit("there is no remote device here")
    if torch.is_autocast_enabled(DEVICE):
        raise Unfit("autocast is on")
    if torch._C._len_torch_dispatch_stack() or torch._C._are_functorch_transforms_active():
        raise Unfit("a dispatch mode or a transform of torch.func is active")


def _function_modes() -> tuple[Any, ...]:
    """Such as ``with torch.device(...)``: what tells them apart."""
    if not torch._C._len_torch_function_stack():
        return ()
    return tuple((type(mode), getattr(mode, "device", None)) for mode in _get_current_function_mode_stack())


def _handles(tensors: list[Any]) -> list[Handle]:
    """Raises ``Unfit``."""
    try:
        return [tensor._handle for tensor in tensors]
    except AttributeError:
        raise Unfit("a parameter or buffer is not on the remote device") from None


def _plain(value: Any) -> Any:
    """What tells it apart in a key. Raises ``Unfit``."""
    if isinstance(value, torch.Tensor):
        raise Unfit(f"an argument is a {type(value).__name__} on {value.device}; allowed: tensors of the remote device")
    if type(value) is float:
        return float, value.hex()
    if type(value) not in _PLAIN:
        raise Unfit(f"an argument is a {type(value).__name__}; allowed: tensors, numbers, text and torch's constants")
    return type(value), value
