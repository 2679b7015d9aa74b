"""What on the executor a tensor of the client stands for."""

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from tessera.remote.client.session import Session
from tessera.remote.client.specs import Spec

MOST_OUTPUTS = 1 << 16
_calls = itertools.count(1)
_making = threading.RLock()


def first_number() -> int:
    """For the outputs of one call: this number, and the next ``MOST_OUTPUTS`` - 1."""
    return next(_calls) * MOST_OUTPUTS


class Handle:
    """A tensor on the executor, freed there when the last tensor here has gone.

    Of a view there is nothing on the executor until an operator needs it: ``made_by`` asks for it then. ``spec``
    ``None``: no operator of the client uses it as a tensor. ``base``: what it is a view of and itself is none.
    """

    __slots__ = ("__weakref__", "_made_by", "_number", "_session", "base", "spec")

    def __init__(
        self, session: Session, number: int = 0, spec: Spec | None = None, made_by: "Deferred | View | None" = None
    ) -> None:
        self._session, self._number, self.spec, self._made_by = session, number, spec, made_by
        self.base: Handle | None = None if made_by is None else made_by.base

    @property
    def number(self) -> int:
        deferred = self._made_by
        if deferred is not None:
            deferred.make(self)
        return self._number

    def name(self, number: int) -> None:
        """From now on the executor has it, by this number."""
        self._number, self._made_by = number, None

    def __del__(self) -> None:
        if self._number:
            self._session.queue.free(self._number)


def numbers_of(handles: Iterable[Handle]) -> list[int]:
    """On the executor, where what was not there is made."""
    return [handle._number or handle.number for handle in handles]


class View:
    """A call of one output, the handle that keeps it, sent when that is needed, or never."""

    __slots__ = ("_call", "_plan", "_send", "base")

    def __init__(self, send: Callable[[Any, Any, int], None], call: Any, plan: Any, base: Handle) -> None:
        self._send, self._call, self._plan = send, call, plan
        self.base = base.base or base

    def make(self, output: Handle) -> None:
        """Sends the call, once."""
        with _making:
            if output._made_by is self:
                number = first_number()
                self._send(self._call, self._plan, number)
                output.name(number)


class Deferred:
    """A call that is sent when one of its outputs is needed, or never. ``send`` gets the first output's number.

    The outputs keep the call alive, and not it them: one that has gone meanwhile is freed as soon as it is made.
    ``base``: what they are views of.
    """

    __slots__ = ("_outputs", "_send", "_session", "base")

    def __init__(self, session: Session, send: Callable[[int], None], base: Handle) -> None:
        self._session, self._send = session, send
        self.base = base.base or base
        self._outputs: list[weakref.ref[Handle]] = []

    def output(self, spec: Spec | None) -> Handle:
        """The next one."""
        handle = Handle(self._session, 0, spec, self)
        self._outputs.append(weakref.ref(handle))
        return handle

    def make(self, _: Handle) -> None:
        """Sends the call, once."""
        with _making:
            outputs, self._outputs = self._outputs, []
            if not outputs:
                return
            first = first_number()
            self._send(first)
            for number, output in enumerate(outputs, first):
                handle = output()
                if handle is None:
                    self._session.queue.free(number)
                else:
                    handle.name(number)
            self._send = _sent


def _sent(_: int) -> None:
    raise AssertionError("a call was sent twice")
