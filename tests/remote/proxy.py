"""A relay between clients and a server that cuts its connections after so many bytes, wherever these are in a frame."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """``cuts``: for each connection in turn, the bytes that it lives for in all; later ones live on."""

    def __init__(self, target: str, cuts: list[int]) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._cuts = (host, int(port)), iter(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._target)
                budget = _Budget(next(self._cuts, None), client, server)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=budget.relay, args=(one, other), daemon=True).start()


class _Budget:
    """What both directions of a connection share."""

    def __init__(self, left: int | None, *ends: socket.socket) -> None:
        self._left, self._ends, self._lock = left, ends, threading.Lock()

    def relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                allowed = self._take(len(data))
                target.sendall(data[:allowed])
                if allowed < len(data):
                    break
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _take(self, count: int) -> int:
        with self._lock:
            if self._left is None:
                return count
            allowed = min(count, self._left)
            self._left -= allowed
            return allowed


@contextmanager
def cutting(target: str, cuts: list[int]) -> Iterator[Proxy]:
    proxy = Proxy(target, cuts)
    try:
        yield proxy
    finally:
        proxy.close()
