"""One object for equal values: of what thousands of pods and GPUs say alike, the process keeps a single copy.

Only for values that never change. Equal texts are one text; equal values are one as long as few enough are about.
"""

import sys
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
_KEPT = 1 << 13


def text(value: str) -> str:
    """``value``, the same object for equal texts; it lives as long as somebody uses it."""
    return sys.intern(value)


def texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(sys.intern, values))


def same(value: T) -> T:
    """A value equal to ``value`` and of its type."""
    found: T = _first(type(value), value)
    return found


@lru_cache(maxsize=_KEPT)
def _first(_: type, value: T) -> T:
    return value
