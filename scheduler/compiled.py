"""How the scheduler's inner loops are compiled: once for a machine, kept on disk beside their file."""

from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """Machine code in place of ``function``, from the cache if it is there; where no folder can be written, each
    process compiles for itself.
    """
    try:
        return njit(cache=True, fastmath=True)(function)
    except RuntimeError:
        return njit(fastmath=True)(function)
