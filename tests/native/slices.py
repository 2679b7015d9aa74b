"""What the shim leaves in its ledger."""

import struct
from pathlib import Path

MIB = 1 << 20
LIMIT = 64 * MIB
LEDGER_MAGIC = 0x3153524553534554
GPUS, SLOTS, HEAD, SLOT = 16, 256, 1024, 192
LEDGER_SIZE = HEAD + SLOT * SLOTS


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

    def works(self, gpu: int = 0) -> int:
        """Until when there is work on a GPU, as far as the programs know."""
        (until,) = struct.unpack_from("<Q", self.path.read_bytes(), 16 + 8 * gpu)
        return int(until)

    def unknown(self) -> str:
        """The name of an entry point that the shim did not know."""
        return self.path.read_bytes()[16 + 8 * GPUS :][:64].split(b"\0")[0].decode()
