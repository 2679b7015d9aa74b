"""Machines of this process: each a gate on loopback, with its sessions in processes of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tessera.remote.executor.gate import Gate
from tessera.remote.executor.moves import Moved
from tessera.remote.executor.processes import Offer
from tessera.remote.protocol.greeting import Redirect
from tests.remote.server import ONE_THREAD, PATIENCE_S
from tests.remote.wire.client import TORCH


class Machine:
    def __init__(self, listener: socket.socket, offer: Offer) -> None:
        self.gate = Gate(listener, offer, TORCH)
        self.reception = self.gate.reception
        self.peer: tuple[str, int] = listener.getsockname()
        self.address = f"{self.peer[0]}:{self.peer[1]}"

    def move_to(self, other: "Machine", way: str = "direct", limit_bytes: int | None = None) -> Moved:
        """All sessions, as two gates and the pool would have it."""
        epoch = self.reception.lease.epoch + 1
        ticket = other.reception.arrivals.expect(epoch, limit_bytes)
        return self.reception.leave(
            lambda: socket.create_connection(other.peer), ticket, Redirect(epoch, other.address), way
        )

    def resize(self, limit_bytes: int, way: str = "auto") -> Moved:
        return self.reception.mover.resize(self.reception.lease.epoch + 1, limit_bytes, way)


@contextmanager
def machine(limit_bytes: int = 0, **offer: float) -> Iterator[Machine]:
    os.environ |= ONE_THREAD
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Machine(listener, Offer("cpu", limit_bytes, **offer))  # type: ignore[arg-type]
        made.gate.start()
        try:
            yield made
        finally:
            made.gate.stop()


def on_this_machine(code: str, told: str) -> list[str]:
    """What a program says when its ``cuda`` is the processor of its own process."""
    found = subprocess.run(
        [sys.executable, "-c", code.replace('"cuda"', '"cpu"')], input=told, capture_output=True, text=True,
        timeout=PATIENCE_S, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()
