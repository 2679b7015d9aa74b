"""Programs that the executor knows: made of what a module sent, and run by one record each time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from tessera.remote.client.device import Device
from tessera.remote.client.handles import Handle, first_number, numbers_of
from tessera.remote.client.plans import Plans
from tessera.remote.client.queue import ROOM
from tessera.remote.client.recording import Inputs, Recording
from tessera.remote.client.session import Session
from tessera.remote.client.specs import Spec
from tessera.remote.client.tensor import RemoteTensor
from tessera.remote.client.unfit import Unfit
from tessera.remote.protocol import programs
from tessera.remote.protocol.records import Code, packed

_RUN = int(Code.RUN)
_PLAIN = (bool, int, float, str, type(None), torch.Size, torch.dtype, torch.device)


class Results:
    """What a module returned; the ``handles`` of its tensors each once. Raises ``Unfit``."""

    def __init__(self, result: Any, recording: Recording) -> None:
        recording.fits()
        self.leaves, self.tree = tree_flatten(result, is_leaf=_is_size)
        self.handles: list[Handle] = []
        self.places: dict[int, int] = {}
        """Of each leaf that is a tensor, by its identity: where its handle is."""
        for leaf in self.leaves:
            if isinstance(leaf, torch.Tensor):
                self.places[id(leaf)] = self._place(leaf, recording)
            elif not isinstance(leaf, _PLAIN):
                raise Unfit(f"a result is a {type(leaf).__name__}")
        roots = {id(handle.base or handle) for handle in self.handles}
        if len(roots) < len(self.handles):
            raise Unfit("two of its results share memory")

    def _place(self, leaf: torch.Tensor, recording: Recording) -> int:
        if not isinstance(leaf, RemoteTensor):
            raise Unfit(f"a result is a tensor on {leaf.device}")
        if leaf.requires_grad:
            raise Unfit("a result requires gradients")
        handle = leaf._handle
        if not recording.has_made(handle):
            raise Unfit("a result is a tensor that the module was given, or a constant, or a view of one")
        if handle not in self.handles:
            self.handles.append(handle)
        return self.handles.index(handle)


def _is_size(value: Any) -> bool:
    """Else it comes apart as the tuple that it is too."""
    return isinstance(value, torch.Size)


class Program:
    """One that the executor knows, until this is gone. It ``holds`` its constants."""

    def __init__(
        self, session: Session, plans: Plans, number: int, inputs: Inputs, outputs: list[tuple[int, Spec]],
        results: Results,
    ) -> None:  # fmt: skip
        self._session, self._plans, self._age, self._number = session, plans, plans.age, number
        self._given, self._holds = inputs.given, inputs.constants
        self._constants = numbers_of(inputs.constants)
        self._pack = programs.run_struct(len(self._given) + len(self._constants)).pack
        self._outputs, self._tree = outputs, results.tree
        firsts = list(dict.fromkeys(results.places))
        self._tensors = [results.places[one] for one in firsts]
        self._leaves = [
            (firsts.index(id(leaf)), None) if id(leaf) in results.places else (-1, leaf) for leaf in results.leaves
        ]

    def send(self, given: Sequence[Handle]) -> int | None:
        """Runs it once, on what it is given; answers the number of its first value. ``None``: the executor does not
        know it any more."""
        numbers = numbers_of([given[at] for at in self._given])
        with self._plans.lock:
            if self._plans.age != self._age:
                return None
            first = first_number()
            self._session.put(self._pack(_RUN, self._number, first, *numbers, *self._constants))
        return first

    def result(self, first: int) -> Any:
        """What the module returns for such a run."""
        session = self._session
        handles = [Handle(session, first + value, spec) for value, spec in self._outputs]
        tensors = [RemoteTensor.of(handles[at], self._outputs[at][1]) for at in self._tensors]
        return tree_unflatten([leaf if at < 0 else tensors[at] for at, leaf in self._leaves], self._tree)

    def __del__(self) -> None:
        """At any instruction, so without a lock; what the executor has forgotten already it may be told again."""
        self._session.queue.put(packed(programs.Forget(self._number)))
        self._plans.programs.pop(self._number, None)


def defined(device: Device, recording: Recording, given: list[Handle], results: Results) -> Program:
    """Tells the executor what a module sent. Raises ``Unfit``."""
    session, plans = device.session, device.plans
    numbers_of(results.handles)
    kept = [recording.value(handle) for handle in results.handles]
    with plans.lock:
        number = plans.program_number()
        program, inputs = recording.program(number, given, kept, plans.age)
        said = packed(program)
        held = list(plans.programs.values())
        if len(said) > ROOM or sum(held) + len(said) > programs.MAX_PROGRAM_BYTES or len(held) >= programs.MAX_PROGRAMS:
            raise Unfit(f"found a program of {len(said)} bytes beside {len(held)} of {sum(held)}; allowed: {ROOM} each")
        session.put(said)
        plans.programs[number] = len(said)
        specs = [handle.spec for handle in results.handles]
        outputs = [(value, spec) for value, spec in zip(kept, specs, strict=True) if spec is not None]
        return Program(session, plans, number, inputs, outputs, results)
