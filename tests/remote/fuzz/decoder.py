"""The real decoder against malformed frames: each is read or refused in a sentence, soon, and in little memory."""

import random
import resource
import signal
from collections import Counter
from collections.abc import Callable

from tessera.remote.protocol import greeting, records, replies, snapshot
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, pack_header
from tessera.remote.protocol.streams import read_frame
from tests.remote.fuzz.mutations import mutated

HANG_S = 20
"""Of this process's own time, for one frame."""
ROOM_BYTES = 64 << 20
"""What a million frames may add to the most that this process ever held."""


class Bytes:
    """A stream that ends."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def recv_into(self, buffer: memoryview) -> int:
        found = self._data[self._at : self._at + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def sendall(self, data: bytes | memoryview) -> None: ...

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


class Broken(AssertionError):
    """Something else than a refusal; the frame is in it."""


def attack(corpus: dict[str, bytes], malformed: int, seed: int) -> Counter[str]:
    """Until so many frames were refused. Raises ``Broken``."""
    rng, seeds, counts = random.Random(seed), list(corpus.values()), Counter[str]()
    signal.signal(signal.SIGVTALRM, _hangs)
    before = _most_bytes()
    while counts["refused"] < malformed:
        data = mutated(rng, rng.choice(seeds), seeds)
        counts[_read(data if rng.random() < 0.2 else _with_its_length(data))] += 1
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    counts["bytes"] = _most_bytes() - before
    if counts["bytes"] > ROOM_BYTES:
        raise Broken(f"memory: {counts['bytes']} bytes more; allowed: {ROOM_BYTES}")
    return counts


def _read(data: bytes) -> str:
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    try:
        found = read_frame(Bytes(data))
        if found is None:
            return "cut"
        _DECODE.get(found[0].kind, lambda payload: None)(found[1])
    except ProtocolError as error:
        if not str(error):
            raise Broken(f"no sentence for {data.hex()}") from None
        return "refused"
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error} for {data.hex()}") from error
    return "read"


def _with_its_length(data: bytes) -> bytes:
    """So that it is not only the header that is wrong."""
    size = max(len(data) - HEADER.size, 0)
    return pack_header(Kind.BATCH, size, 1)[:4] + data[4:] if len(data) >= HEADER.size else data


def _batch(payload: bytes) -> None:
    for _ in records.Batches().read(payload):
        pass


_DECODE: dict[Kind, Callable[[bytes], object]] = {
    Kind.HELLO: lambda payload: greeting.decode(greeting.Hello, payload),
    Kind.WELCOME: lambda payload: greeting.decode(greeting.Welcome, payload),
    Kind.REFUSED: lambda payload: greeting.decode(greeting.Refused, payload),
    Kind.REDIRECT: lambda payload: greeting.decode(greeting.Redirect, payload),
    Kind.MOVE: lambda payload: greeting.decode(greeting.Move, payload),
    Kind.MOVED: lambda payload: greeting.decode(greeting.Moved, payload),
    Kind.PART: lambda payload: list(snapshot.Parts().read(payload)),
    Kind.BATCH: _batch,
    Kind.REPLY: replies.decode,
    Kind.DATA: replies.decode_data,
}


def _hangs(number: int, frame: object) -> None:
    raise Broken(f"a frame took more than {HANG_S} s")


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
