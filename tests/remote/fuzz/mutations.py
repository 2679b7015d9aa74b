"""Changes to bytes of the kinds that break parsers: bits, lengths at their bounds, cuts, repetitions, splices."""

import random
import struct
from collections.abc import Callable, Sequence

_BOUNDS = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    1 << 20,
    0x7FFFFFFF,
    0xFFFFFFFF,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
_WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A copy with one to four changes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_ALL)(rng, made, others)
    return bytes(made)


def _flip(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _bound(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    width = rng.choice(list(_WIDTHS))
    if len(data) >= width:
        at = rng.randrange(len(data) - width + 1)
        data[at : at + width] = struct.pack(_WIDTHS[width], rng.choice(_BOUNDS) & ((1 << 8 * width) - 1))


def _cut(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.randint(1, 8)]


def _repeat(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.randint(1, 32)] * rng.randint(1, 8)


def _insert(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 16))


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


_ALL: list[Mutation] = [_flip, _byte, _bound, _cut, _remove, _repeat, _insert, _splice]
