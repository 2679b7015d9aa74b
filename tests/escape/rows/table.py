"""What a row is, and the table that the other files fill."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.escape.cage import Cage
from tests.escape.verdict import Outcome, Wall

Try = Callable[[Cage], Outcome]
TAKE = "/programs/taker plain 64 4096"
STATIC = "/programs/taker-static plain 512 4096"


@dataclass(frozen=True, slots=True)
class Row:
    """``real``: what was exercised; ``again``: whether only a driver can decide, so that it comes again as T13."""

    name: str
    wall: Wall
    real: str
    again: bool
    attempt: Try


ROWS: list[Row] = []


def row(name: str, wall: Wall, real: str, *, again: bool = False) -> Callable[[Try], Try]:
    """Adds one."""

    def add(attempt: Try) -> Try:
        ROWS.append(Row(name, wall, real, again, attempt))
        return attempt

    return add


def script(text: str) -> Try:
    """Runs it as the one container's program."""

    def attempt(cage: Cage) -> Outcome:
        return cage.run(text)

    return attempt
