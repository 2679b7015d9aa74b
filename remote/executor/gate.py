"""Accepts connections, learns who asks, and hands each on to the process of its session.

Nothing of a client is read here but its first frame. A session is a process of its own, so whatever ends it ends no
other.
"""

import contextlib
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tessera.remote.protocol import greeting
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, Kind, pack_header, parse_header
from tessera.remote.protocol.peer import close, read_frame

FIRST_FRAME_S = 5.0
WAITING = 64
"""Connections whose first frame has not come yet."""


class Refusal(Exception):
    """A client that is not let in; ``reason`` is a word for programs."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Offer:
    """What a session gets. ``limit_bytes`` 0: all of the device."""

    device: str
    limit_bytes: int = 0
    grace_s: float = 60.0
    sessions: int = 16


Admit = Callable[[greeting.Hello], None]
"""Raises ``Refusal`` for who is not to be let in."""


class Gate:
    """Serves on a listening socket between ``start`` and ``stop``."""

    def __init__(self, listener: socket.socket, offer: Offer, torch: str, admit: Admit) -> None:
        self._listener, self._offer, self._torch, self._admit = listener, offer, torch, admit
        self._sessions: dict[str, _Process] = {}
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._listener.listen(WAITING)
        self._thread.start()

    def stop(self) -> None:
        """Ends the sessions with it."""
        close(self._listener)
        self._thread.join()
        with self._lock:
            for process in self._sessions.values():
                process.end()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            if not self._waiting.acquire(blocking=False):
                close(stream)
                continue
            threading.Thread(target=self._greet, args=(stream,), daemon=True).start()

    def _greet(self, stream: socket.socket) -> None:
        try:
            stream.settimeout(FIRST_FRAME_S)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = self._hello(stream)
            self._check(hello)
            self._process(hello).hand(stream, hello.received)
        except Refusal as refusal:
            self._refuse(stream, refusal)
        except (ProtocolError, OSError) as error:
            self._refuse(stream, Refusal("Malformed", str(error)))
        finally:
            self._waiting.release()
            stream.close()

    def _hello(self, stream: socket.socket) -> greeting.Hello:
        head = stream.recv(HEADER.size, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(head) < HEADER.size or parse_header(head).kind is not Kind.HELLO:
            raise ProtocolError("first frame: found another than HELLO")
        frame = read_frame(stream)
        if frame is None:
            raise ProtocolError("first frame: found its beginning only")
        return greeting.decode(greeting.Hello, frame[1])

    def _check(self, hello: greeting.Hello) -> None:
        if hello.protocol != greeting.VERSION:
            raise Refusal("Protocol", f"protocol: found version {hello.protocol}; allowed: {greeting.VERSION}")
        if _minor(hello.torch) != _minor(self._torch):
            text = f"torch: found {hello.torch}; allowed: {_minor(self._torch)}, which the executor has ({self._torch})"
            raise Refusal("Torch", text)
        self._admit(hello)

    def _process(self, hello: greeting.Hello) -> "_Process":
        with self._lock:
            self._sessions = {name: process for name, process in self._sessions.items() if process.lives}
            if hello.session:
                if hello.session not in self._sessions:
                    raise Refusal("SessionLost", "session: found one that is not here any more")
                return self._sessions[hello.session]
            if len(self._sessions) >= self._offer.sessions:
                raise Refusal("Full", f"sessions: found {len(self._sessions)}, as many as are allowed")
            limit_bytes = self._limit(hello.mem_bytes)
            name = secrets.token_hex(16)
            self._sessions[name] = _Process(name, self._offer, limit_bytes)
            return self._sessions[name]

    def _limit(self, asked: int) -> int:
        most = self._offer.limit_bytes
        if most and asked > most:
            raise Refusal("Memory", f"gpu-mem: found {asked} bytes; allowed: up to {most}")
        return asked or most

    def _refuse(self, stream: socket.socket, refusal: Refusal) -> None:
        payload = greeting.encode(greeting.Refused(refusal.reason, str(refusal)))
        with contextlib.suppress(OSError):
            stream.sendall(pack_header(Kind.REFUSED, len(payload)) + payload)


class _Process:
    """A session's process, and the way to hand it connections."""

    def __init__(self, name: str, offer: Offer, limit_bytes: int) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            command = [sys.executable, "-m", "tessera.remote.executor.session", "--session", name]
            command += ["--device", offer.device, "--limit-bytes", str(limit_bytes)]
            command += ["--grace-s", str(offer.grace_s), "--gate", str(its.fileno())]
            self._child = subprocess.Popen(command, pass_fds=(its.fileno(),))
        self._way = ours

    @property
    def lives(self) -> bool:
        return self._child.poll() is None

    def hand(self, stream: socket.socket, received: int) -> None:
        """Raises ``OSError`` if the process has gone."""
        socket.send_fds(self._way, [received.to_bytes(8, "little")], [stream.fileno()])

    def end(self) -> None:
        self._way.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
