"""The process of one session: gets its connections from the gate, runs what comes over them, keeps what was made.

It ends when the client says goodbye, when no connection came for the grace period, when the gate is gone, or when the
client sends what the protocol does not allow.
"""

import argparse
import contextlib
import os
import platform
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import torch

from tessera.remote.executor.interpreter import Interpreter
from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.peer import Ended, Peer
from tessera.remote.protocol.streams import limit_stalls

END_S = 2.0
"""An operator that runs when the session is over is waited for so long."""
_DESCRIPTORS, _NUMBER = 1, 8


class Session:
    """``gate``: a socket that brings connections, each with the last frame that its client has received."""

    def __init__(self, name: str, device: str, limit_bytes: int, grace_s: float, gate: socket.socket) -> None:
        self._name, self._device, self._limit_bytes = name, torch.device(device), limit_bytes
        self._grace_s, self._gate = grace_s, gate
        self._queue: queue.SimpleQueue[tuple[Kind, bytes] | None] = queue.SimpleQueue()
        self._peer = Peer(lambda kind, payload: self._queue.put((kind, payload)), kept=True)
        self._interpreter = Interpreter(self._device, limit_bytes, self._answer)
        self._error: ProtocolError | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Until the session ends. Raises ``ProtocolError`` if the client broke the protocol."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (item := self._queue.get()) is not None and not self.over.is_set():
            self._interpreter.take(*item)
            self._peer.taken(len(item[1]))
        if self._error is not None:
            raise self._error

    def _answer(self, kind: Kind, payload: bytes) -> None:
        with contextlib.suppress(Ended):
            self._peer.send(kind, payload)

    def _listen(self) -> None:
        try:
            self._connections()
        except ProtocolError as error:
            self._error = error
        finally:
            self.over.set()
            self._peer.end("the session is over")
            self._queue.put(None)

    def _connections(self) -> None:
        """Reads one connection after another; returns when no other will come."""
        stream: socket.socket | None = None
        while True:
            waits = [self._gate] if stream is None else [self._gate, stream]
            ready, _, _ = select.select(waits, [], [], self._grace_s if stream is None else None)
            if not ready:
                return
            if self._gate in ready:
                stream = self._adopt()
                if stream is None:
                    return
                continue
            kind = self._peer.take(ready[0])
            if kind is Kind.BYE:
                return
            if kind is None:
                stream = None

    def _adopt(self) -> socket.socket | None:
        """The next connection, greeted; ``None``: the gate has gone."""
        data, descriptors, _, _ = socket.recv_fds(self._gate, _NUMBER, _DESCRIPTORS)
        if not descriptors:
            return None
        stream = socket.socket(fileno=descriptors[0])
        limit_stalls(stream, socket.SO_SNDTIMEO, socket.SO_RCVTIMEO)
        with contextlib.suppress(OSError):
            stream.sendall(self._welcome())
        self._peer.attach(stream, int.from_bytes(data, "little"))
        return stream

    def _welcome(self) -> bytes:
        welcome = greeting.Welcome(
            session=self._name, received=self._peer.received, torch=torch.__version__, device=name_of(self._device),
            limit_bytes=self._limit_bytes, **facts_of(self._device),
        )  # fmt: skip
        return greeting.framed(welcome)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def facts_of(device: torch.device) -> dict[str, int]:
    """What WELCOME tells of the device; a CPU's memory is the machine's."""
    if device.type != "cuda":
        return {"total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    found = torch.cuda.get_device_properties(device)
    capability = 10 * found.major + found.minor
    return {
        "total_bytes": found.total_memory, "capability": capability, "multiprocessors": found.multi_processor_count,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with one line on standard error if the client broke the protocol.

    ``TESSERA_SESSION`` in the environment, where other users cannot see it, is the session's name.
    """
    parser = argparse.ArgumentParser(prog="tessera-executor")
    parser.add_argument("--device", required=True)
    parser.add_argument("--limit-bytes", type=int, required=True)
    parser.add_argument("--grace-s", type=float, required=True)
    parser.add_argument("--gate", type=int, required=True)
    asked = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    name = os.environ.pop("TESSERA_SESSION")
    gate = socket.socket(fileno=asked.gate)
    session = Session(name, asked.device, asked.limit_bytes, asked.grace_s, gate)
    threading.Thread(target=_end_with, args=(session,), daemon=True).start()
    try:
        session.run()
    except ProtocolError as error:
        print(f"session {name[:8]}: {error}", file=sys.stderr)
        return 1
    return 0


def _end_with(session: Session) -> None:
    session.over.wait()
    time.sleep(END_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
