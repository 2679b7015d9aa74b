"""Words of a benchmark's command line, each refused in one sentence if it is none."""

import argparse
from collections.abc import Callable, Collection


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number above 0")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """``42``, ``42,44`` or ``42-51``."""
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise argparse.ArgumentTypeError(f"found {text!r}; allowed: numbers, or first and last such as 42-51")
        out += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(out))


def words(text: str) -> tuple[str, ...]:
    """Names joined by commas."""
    return tuple(text.split(","))


def names(allowed: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Names joined by commas, each one of ``allowed``."""

    def read(text: str) -> tuple[str, ...]:
        for word in words(text):
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"found {word!r}; allowed: {', '.join(allowed)}")
        return words(text)

    return read
