"""Things that go wrong on purpose: tests order them, the server carries them out."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto


class Effect(Enum):
    """``FAIL`` before doing anything; ``DELAY`` before doing it; ``LOSE`` the answer after it was done."""

    FAIL = auto()
    DELAY = auto()
    LOSE = auto()


@dataclass(slots=True)
class Fault:
    """Strikes the next ``left`` requests with this verb and plural; empty means any."""

    effect: Effect
    left: int
    verb: str
    plural: str
    status: int = 500
    seconds: float = 0.0


@dataclass(slots=True)
class Faults:
    """Verbs: get, list, watch, create, update, patch, delete, bind, evict. Writes are all but the first three."""

    _planned: list[Fault] = field(default_factory=list)
    _watches: dict[int, Callable[[], None]] = field(default_factory=dict)
    _keys: "itertools.count[int]" = field(default_factory=itertools.count)

    def fail_next(self, n: int = 1, status: int = 500, *, verb: str = "", plural: str = "") -> None:
        """Answers ``status`` and does nothing."""
        self._planned.append(Fault(Effect.FAIL, n, verb, plural, status=status))

    def delay_next(self, n: int, seconds: float, *, verb: str = "", plural: str = "") -> None:
        """Waits before doing what was asked."""
        self._planned.append(Fault(Effect.DELAY, n, verb, plural, seconds=seconds))

    def lose_answers(self, n: int = 1, *, verb: str = "", plural: str = "") -> None:
        """Does what was asked and then cuts the connection without a word."""
        self._planned.append(Fault(Effect.LOSE, n, verb, plural))

    def drop_watches(self) -> int:
        """Cuts the connections of all watches; says how many there were."""
        cut = list(self._watches.values())
        for abort in cut:
            abort()
        return len(cut)

    def clear(self) -> None:
        """Takes back all that was planned."""
        self._planned.clear()

    @property
    def planned(self) -> int:
        """How many requests are still to be struck."""
        return sum(fault.left for fault in self._planned)

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    async def strike(self, verb: str, plural: str) -> Fault | None:
        """Waits for a delay; answers a failure or a loss that is due."""
        due: Fault | None = None
        for fault in self._planned:
            if fault.left > 0 and fault.verb in ("", verb) and fault.plural in ("", plural):
                if fault.effect is Effect.DELAY:
                    fault.left -= 1
                    await asyncio.sleep(fault.seconds)
                elif due is None:
                    fault.left -= 1
                    due = fault
        self._planned = [fault for fault in self._planned if fault.left > 0]
        return due

    def opened(self, abort: Callable[[], None]) -> Callable[[], None]:
        """Registers an open watch; the answer takes it off the list."""
        key = next(self._keys)
        self._watches[key] = abort

        def closed() -> None:
            self._watches.pop(key, None)

        return closed
