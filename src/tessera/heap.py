"""Python's cyclic garbage collector in a process that keeps millions of small objects for long.

By default it looks at all of them again and again: a pause of a tenth of a second in a scheduler of 5,000 nodes, and
most of the time of a bulk load. What is loaded once is better taken out of its sight.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50


@contextmanager
def filling() -> Iterator[None]:
    """While a process fills its heap nothing is collected; what then is there is left out of all later collections,
    which come seldom. Objects are freed as before when nothing refers to them; only cycles among them stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
        gc.enable()
