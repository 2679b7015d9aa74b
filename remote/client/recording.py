"""What a module sends while it runs operator by operator: the calls of its program."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from tessera.remote.client.arguments import Call, Pattern, Remote
from tessera.remote.client.handles import Handle, first_number
from tessera.remote.client.plans import Plan
from tessera.remote.client.unfit import Unfit
from tessera.remote.protocol.programs import MAX_NODES, MAX_VALUES, Node, Program
from tessera.remote.protocol.values import Slot

_TRAINING = ("train", "training")


class Sent(NamedTuple):
    plan: Plan
    handles: list[Handle]
    floats: list[float]
    first: int


class Inputs(NamedTuple):
    """What a program takes, in its order: ``given`` by their place among what each run is given, then ``constants``."""

    given: list[int]
    constants: list[Handle]


class Recording:
    """Of one thread. It holds what the calls take, so that nothing is freed and no number used again meanwhile."""

    def __init__(self) -> None:
        self._thread, self._from = threading.get_ident(), first_number()
        self._uploaded: set[int] = set()
        self._calls: list[Sent] = []
        self._made: dict[int, int] = {}
        self._unfit = ""

    def sent(self, call: Call, plan: Plan, first: int) -> None:
        if threading.get_ident() != self._thread:
            return
        if any(not self.has_made(handle) for handle in _written(plan.pattern, call.handles)):
            self._unfit = self._unfit or f"{plan.pattern.function} writes to a tensor that the module was given"
        if _draws(plan.pattern):
            self._unfit = self._unfit or f"{plan.pattern.function} draws random numbers"
        for number in range(first, first + len(plan.outputs)):
            self._made[number] = len(self._made)
        self._calls.append(Sent(plan, call.handles, call.floats, first))

    def uploaded(self, number: int) -> None:
        """A tensor of this machine: a constant of the program."""
        if threading.get_ident() == self._thread:
            self._uploaded.add(number)

    def waited(self, plan: Plan) -> None:
        """For a result that only the executor can describe."""
        if threading.get_ident() == self._thread:
            self._unfit = self._unfit or f"only the executor knows what {plan.pattern.function} gives"

    def changed(self) -> None:
        """For a setting of torch."""
        if threading.get_ident() == self._thread:
            self._unfit = self._unfit or "it changes a setting of torch"

    def read(self) -> None:
        """For a value that the module asks for."""
        if threading.get_ident() == self._thread:
            self._unfit = self._unfit or "it reads a value of a tensor"

    def fits(self) -> None:
        """Raises ``Unfit``, if what came so far is no program."""
        if self._unfit:
            raise Unfit(self._unfit)

    def has_made(self, handle: Handle) -> bool:
        """It, or what it is a view of."""
        return (handle.base or handle).number in self._made

    def value(self, handle: Handle) -> int:
        """Its number among the program's values."""
        return self._made[handle.number]

    def program(self, number: int, given: list[Handle], kept: list[int], age: int) -> tuple[Program, Inputs]:
        """``age``: that of the ``Plans``. Raises ``Unfit``."""
        self.fits()
        if len(self._calls) > MAX_NODES or len(self._made) > MAX_VALUES:
            raise Unfit(f"found {len(self._calls)} operators with {len(self._made)} results; allowed: {MAX_NODES}")
        if any(sent.plan.age != age for sent in self._calls):
            raise Unfit("the numbers of operators began anew while it was captured")
        at, inputs = self._inputs(given)
        count = len(at)
        nodes = [
            Node(
                sent.plan.form, sent.plan.layout,
                tuple(at[one] if one in at else count + self._made[one] for one in _numbers(sent.handles)),
                tuple(sent.floats),
            )
            for sent in self._calls
        ]  # fmt: skip
        return Program(number, count, tuple(nodes), tuple(kept)), inputs

    def _inputs(self, given: list[Handle]) -> tuple[dict[int, int], Inputs]:
        """The program's inputs by the handle's number; what was neither given nor made is a constant."""
        taken = {handle.number: handle for sent in self._calls for handle in sent.handles}
        places = {handle.number: place for place, handle in enumerate(given)}
        if len(places) < len(given):
            raise Unfit("it is given one tensor in two places")
        used = [number for number in taken if number in places]
        rest = [number for number in taken if number not in places and number not in self._made]
        if any(number >= self._from and number not in self._uploaded for number in rest):
            raise Unfit("it takes a tensor that another thread makes")
        at = {number: place for place, number in enumerate([*used, *rest])}
        return at, Inputs([places[number] for number in used], [taken[number] for number in rest])


def _numbers(handles: Iterable[Handle]) -> Iterator[int]:
    return (handle.number for handle in handles)


def _draws(pattern: Pattern) -> bool:
    """Whether it takes random numbers. What is told that it does not train takes none."""
    if torch.Tag.nondeterministic_seeded not in pattern.function.tags:
        return False
    return not any(argument.name in _TRAINING and value is False for argument, value in _arguments(pattern))


def _written(pattern: Pattern, handles: list[Handle]) -> list[Handle]:
    """The handles of the arguments that the operator writes to."""
    if not pattern.function._schema.is_mutable:
        return []
    rest, found = iter(handles), list[Handle]()
    for argument, value in _arguments(pattern):
        taken = [next(rest) for leaf in tree_leaves(value) if isinstance(leaf, Remote) or leaf is Slot.GENERATOR]
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += taken
    return found


def _arguments(pattern: Pattern) -> list[tuple[Any, Any]]:
    """With what the schema says of each."""
    arguments = pattern.function._schema.arguments
    named = {argument.name: argument for argument in arguments}
    return [
        *zip(arguments, pattern.args, strict=False), *((named[name], value) for name, value in pattern.kwargs.items())
    ]  # fmt: skip
