"""How long a session of the remote device stands still while it is moved, and whether what it held is the same.

``python -m benchmarks.remote_move --device cuda --mib 4096``: a line of JSON for each move, between two executors
of one machine, over loopback, and to new processes of one executor.
"""

import argparse
import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import blake2b

import torch

from tessera.remote.client.contact import Connect, Contact
from tessera.remote.client.session import Session
from tessera.remote.executor.gate import Gate
from tessera.remote.executor.moves import Moved
from tessera.remote.executor.processes import Offer
from tessera.remote.protocol import records
from tessera.remote.protocol.greeting import Redirect

_TENSOR_BYTES = 64 << 20


def _gate(stack: ExitStack, device: str, host_bytes: int) -> tuple[Gate, tuple[str, int]]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    gate = Gate(listener, Offer(device, host_bytes=host_bytes), torch.__version__)
    gate.start()
    stack.callback(gate.stop)
    return gate, listener.getsockname()


def _connect(first: tuple[str, int]) -> Connect:
    def connect(redirect: Redirect | None) -> Contact:
        host, _, port = (redirect.endpoint if redirect else "").rpartition(":")
        address = (host, int(port)) if port else first
        return Contact(socket.create_connection(address), epoch=redirect.epoch if redirect else 0)

    return connect


def _read(session: Session, handle: int) -> bytes:
    return blake2b(session.ask(lambda request: records.packed(records.Read(request, handle)))[1]).digest()


def _measured(name: str, session: Session, handles: list[int], expected: bytes, move: Callable[[], Moved]) -> None:
    began = time.monotonic()
    moved = move()
    took_s = time.monotonic() - began
    same = all(_read(session, handle) == expected for handle in (handles[0], handles[-1]))
    line = {
        "move": name, "mib": moved.used_bytes >> 20, "paused_s": round(moved.paused_s, 2),
        "with_new_processes_s": round(took_s, 2), "first_answer_s": round(time.monotonic() - began, 2), "same": same,
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.remote_move", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mib", type=int, default=512)
    asked = parser.parse_args(arguments)
    data = memoryview(bytearray(torch.randint(0, 256, (_TENSOR_BYTES,), dtype=torch.uint8).numpy()))
    with ExitStack() as stack:
        host_bytes = 2 * asked.mib << 20
        here, first = _gate(stack, asked.device, host_bytes)
        there, second = _gate(stack, asked.device, host_bytes)
        session = Session(_connect(first), torch.__version__)
        stack.callback(session.close)
        handles = list(range(1, max(asked.mib * (1 << 20) // _TENSOR_BYTES, 1) + 1))
        for handle in handles:
            session.upload(records.New(handle, "uint8", (_TENSOR_BYTES,)), data)
        expected = blake2b(data).digest()
        assert _read(session, handles[-1]) == expected
        ticket = there.reception.arrivals.expect(1)
        redirect = Redirect(1, f"{second[0]}:{second[1]}")
        _measured("elsewhere", session, handles, expected, lambda: here.reception.leave(
            lambda: socket.create_connection(second), ticket, redirect))  # fmt: skip
        for epoch, way in ((2, "direct"), (3, "host")):
            _measured(f"resize-{way}", session, handles, expected,
                      lambda epoch=epoch, way=way: there.reception.mover.resize(epoch, 0, way))  # type: ignore[misc]  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
