"""The files by which a container's slice is known to the shim, and what the shim leaves in them."""

import struct
from collections.abc import Sequence
from pathlib import Path

LEDGER_MAGIC = 0x3153524553534554
PACE_MAGIC = 0x3145434150534554
GPUS, SLOTS, HEAD, SLOT = 16, 256, 1024, 192
LEDGER_SIZE = HEAD + SLOT * SLOTS


def limits_text(gpus: Sequence[tuple[str, int, int]]) -> str:
    """UUID, bytes and percent of each GPU, as the agent writes them."""
    text = "tessera 1\n" + "".join(f"gpu {uuid} {size} {percent}\n" for uuid, size, percent in gpus)
    return f"{text}end {len(gpus)} {_fnv1a(text.encode()):x}\n"


def _fnv1a(content: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


def pace_page(generation: int = 1, prices: Sequence[int] = ()) -> bytes:
    """A page that sets prices, in 1/65536 ns for a warp."""
    words = [_checked(price) for price in prices] + [0] * (GPUS - len(prices))
    head = struct.pack("<QQQ", PACE_MAGIC, generation, int(any(prices)))
    return (head + struct.pack(f"<{GPUS}Q", *words)).ljust(4096, b"\0")


def _checked(price: int) -> int:
    return price | ((price ^ price >> 16 ^ price >> 32 ^ 0x7E55) & 0xFFFF) << 48


def fresh_ledger() -> bytes:
    """A ledger in which nobody holds anything."""
    return struct.pack("<Q", LEDGER_MAGIC).ljust(LEDGER_SIZE, b"\0")


class Ledger:
    """A ledger's file, read anew each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def held(self, gpu: int = 0) -> int:
        """Bytes of all slots on a GPU."""
        content = self.path.read_bytes()
        return sum(struct.unpack_from("<Q", content, HEAD + SLOT * slot + 8 * gpu)[0] for slot in range(SLOTS))

    def turn(self, gpu: int = 0) -> int:
        """When the next launch on a GPU may begin."""
        (turn,) = struct.unpack_from("<Q", self.path.read_bytes(), 16 + 8 * gpu)
        return int(turn)

    def unknown(self) -> str:
        """The name of an entry point that the shim did not know."""
        return self.path.read_bytes()[16 + 8 * GPUS :][:64].split(b"\0")[0].decode()
