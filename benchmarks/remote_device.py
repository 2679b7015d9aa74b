"""A device that computes nothing and takes the same time for each operator: what is left is the client and the wire.

It speaks the remote device's protocol to one client. Time on the device passes as on a GPU, apart from that of this
processor: an operator begins when it has come and the one before is done; a program takes as long as its operators.
What is read is a float32 of 0, as a loss is; operators that the client would wait for are refused. Asked for memory, it
tells how many operators it has got.

``python -m benchmarks.remote_device MICROSECONDS`` prints its address, and ends with its client.
"""

import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence

from tessera.remote.protocol import greeting, programs, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.peer import Peer
from tessera.remote.protocol.streams import read_frame, tune

_READ = bytes(4)


class Device:
    """``cost_s``: of an operator."""

    def __init__(self, cost_s: float) -> None:
        self._cost_s, self._free_at, self._calls = cost_s, 0.0, 0
        self._batches = records.Batches()
        self._programs: dict[int, int] = {}
        self._peer = Peer(self._take)
        self._answers: queue.SimpleQueue[tuple[float, replies.Reply]] = queue.SimpleQueue()
        threading.Thread(target=self._answer, daemon=True).start()

    def serve(self, stream: socket.socket) -> None:
        """Until the client ends. Raises ``ProtocolError``."""
        tune(stream)
        frame = read_frame(stream)
        if frame is None or frame[0].kind is not Kind.HELLO:
            raise ProtocolError("first frame: found no HELLO")
        version = greeting.decode(greeting.Hello, frame[1]).torch
        stream.sendall(greeting.framed(greeting.Welcome("fixed", 0, version, "fixed", 0, 0)))
        self._peer.attach(stream, 0)
        while self._peer.take(stream) not in (None, Kind.BYE):
            pass

    def _take(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.UPLOAD:
            return
        for record in self._batches.read(payload):
            match record:
                case records.Call():
                    self._call(record)
                case programs.Program():
                    self._programs[record.number] = len(record.nodes)
                case programs.Run():
                    self._compute(self._programs[record.program])
                case programs.Forget():
                    self._programs.pop(record.number, None)
                case records.Read(request, _):
                    self._answers.put((self._free_at, replies.Bytes(request, len(_READ))))
                case records.Sync(request):
                    self._answers.put((self._free_at, replies.Done(request)))
                case records.Memory(request):
                    self._answers.put((self._free_at, replies.Memory(request, self._calls, 0)))

    def _call(self, call: records.Call) -> None:
        if call.request:
            raise ProtocolError("call: found one that is waited for; allowed here: those whose outputs are known")
        self._compute(1)

    def _compute(self, operators: int) -> None:
        self._calls += operators
        self._free_at = max(self._free_at, time.monotonic()) + operators * self._cost_s

    def _answer(self) -> None:
        """Each when the device has come so far."""
        while True:
            due, reply = self._answers.get()
            time.sleep(max(due - time.monotonic(), 0))
            self._peer.send(Kind.REPLY, replies.encode(reply))
            if isinstance(reply, replies.Bytes):
                self._peer.send(Kind.DATA, replies.DATA_HEAD.pack(reply.request) + _READ)


def main(arguments: Sequence[str]) -> int:
    """Serves one client."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    stream, _ = listener.accept()
    Device(float(arguments[0]) / 1e6).serve(stream)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
