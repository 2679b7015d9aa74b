"""A real ``tessera serve`` under the same frames: only the session that sends them may end, and in a sentence."""

import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tessera.remote.protocol import replies
from tessera.remote.protocol.frames import HEADER, Kind, pack_header
from tests.remote.fuzz.decoder import Broken
from tests.remote.fuzz.mutations import mutated
from tests.remote.wire.client import PATIENCE_S, Client, greeted
from tests.remote.wire.served import Served, lines_of

FRAMES = 100
"""The most that one session is sent, should it live so long."""


def attack(served: Served, corpus: dict[str, bytes], first_frames: int, sessions: int, seed: int) -> Counter[str]:
    """Raises ``Broken``."""
    rng, counts = random.Random(seed), Counter[str]()
    address = served.host, served.port
    bystander = Client(address)
    for _ in range(first_frames):
        _knock(address, mutated(rng, corpus["hello"], list(corpus.values())))
        counts["first frames"] += 1
    _lives(bystander)
    said = [data[HEADER.size :] for name, data in corpus.items() if name.startswith(("batch", "upload"))]
    for _ in range(sessions):
        counts["frames"] += _session(address, rng, said)
        counts["sessions"] += 1
        _lives(bystander)
    bystander.close()
    check_log(served.log)
    return counts


def _knock(address: tuple[str, int], data: bytes) -> None:
    with socket.create_connection(address, PATIENCE_S) as stream, suppress(ConnectionError):
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(4096):
            pass


def _session(address: tuple[str, int], rng: random.Random, said: list[bytes]) -> int:
    """Sends until the session ends; answers how much."""
    stream, _ = greeted(address)
    reader = threading.Thread(target=_drain, args=(stream,), daemon=True)
    reader.start()
    sent = 0
    with suppress(OSError):
        while sent < FRAMES:
            sent += 1
            payload = mutated(rng, rng.choice(said), said)
            kind = Kind.BATCH if rng.random() < 0.9 else Kind.UPLOAD
            data = pack_header(kind, len(payload), sent) + payload
            stream.sendall(data if rng.random() < 0.9 else mutated(rng, data, said))
        stream.shutdown(socket.SHUT_WR)
    reader.join(PATIENCE_S)
    if reader.is_alive():
        raise Broken("a session neither read nor ended")
    stream.close()
    return sent


def _drain(stream: socket.socket) -> None:
    with suppress(OSError):
        while stream.recv(1 << 16):
            pass


def _lives(bystander: Client) -> None:
    if bystander.sync() != replies.Done(1):
        raise Broken("another session ended")


def check_log(log: Path) -> None:
    """Nothing ended but in a sentence. Raises ``Broken``."""
    text = log.read_text()
    statuses = {line["status"] for line in lines_of(log) if line["event"] == "session ended"}
    if "Traceback" in text or not statuses <= {0, 1}:
        raise Broken(f"found exit statuses {statuses} and\n{text[-4000:]}")
