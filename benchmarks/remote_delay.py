"""A relay that brings every byte later by half a round trip, as a longer wire does: it holds nothing back.

``python -m benchmarks.remote_delay ADDRESS`` prints an address that leads there. Each line on standard input is the
round trip from then on, in milliseconds; it ends with its standard input.
"""

import contextlib
import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from tessera.remote.protocol.streams import shut, tune

_PIECE = 64 << 10


class Wire:
    """Both directions share the delay, which may change at any time."""

    def __init__(self) -> None:
        self.one_way_s = 0.0

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """Returns at once."""
        for source, sink in ((one, other), (other, one)):
            tune(source)
            under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=self._take, args=(source, under_way), daemon=True).start()
            threading.Thread(target=self._bring, args=(under_way, sink), daemon=True).start()

    def _take(self, source: socket.socket, under_way: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                under_way.put((time.monotonic() + self.one_way_s, data))
        under_way.put((0.0, b""))

    def _bring(self, under_way: "queue.SimpleQueue[tuple[float, bytes]]", sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (item := under_way.get())[1]:
                time.sleep(max(item[0] - time.monotonic(), 0))
                sink.sendall(item[1])
        shut(sink)


def serve(listener: socket.socket, target: str, wire: Wire) -> None:
    """One connection after another."""
    host, _, port = target.rpartition(":")
    while True:
        client, _ = listener.accept()
        wire.join(client, socket.create_connection((host, int(port))))


def main(arguments: Sequence[str], orders: TextIO) -> int:
    """Until nobody gives orders any more."""
    wire, listener = Wire(), socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, arguments[0], wire), daemon=True).start()
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    for line in orders:
        wire.one_way_s = float(line) / 2000
        print("ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin))
