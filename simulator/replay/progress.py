"""Progress of a replay on a terminal; nothing where standard error is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

STEP = 50
"""Arrivals between two looks at the screen."""


class Progress(Protocol):
    def begin(self, label: str, total: int) -> None:
        """Work of ``total`` parts begins."""
        ...

    def told(self, done: int) -> None:
        """So many parts are done."""
        ...

    def note(self, text: str) -> None:
        """A sentence for the user."""
        ...


class Silent:
    """Says nothing but what must be said."""

    def begin(self, label: str, total: int) -> None:
        return

    def told(self, done: int) -> None:
        return

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)


@contextmanager
def shown() -> Iterator[Progress]:
    """A bar on standard error while the block runs, if that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars)


class _Bar:
    def __init__(self, bars: "Bars") -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None)
        self._total = 0

    def begin(self, label: str, total: int) -> None:
        self._total = total
        self._bars.reset(self._task, description=label, total=total)

    def told(self, done: int) -> None:
        if done % STEP == 0 or done >= self._total:
            self._bars.update(self._task, completed=done)

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)
