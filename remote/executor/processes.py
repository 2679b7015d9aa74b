"""The processes of the sessions: one each, so that whatever ends one ends no other."""

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

END_S = 5.0
"""How long a process may take to end once it is told; then it is killed."""


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


class Process:
    """A session's process, and the way to hand it connections. Raises ``OSError``."""

    def __init__(self, name: str, offer: Offer, limit_bytes: int) -> None:
        self.name = name
        self._way, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._way.setblocking(False)
        self._way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        with its:
            command = [sys.executable, "-m", "tessera.remote.executor.session", "--device", offer.device]
            command += ["--limit-bytes", str(limit_bytes), "--grace-s", str(offer.grace_s), "--gate", str(its.fileno())]
            try:
                self.child = subprocess.Popen(
                    command, pass_fds=(its.fileno(),), env={**os.environ, "TESSERA_SESSION": name},
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            except OSError:
                self._way.close()
                raise

    def hand(self, descriptor: int, received: int) -> None:
        """Gives it a connection whose client has ``received`` so much. Raises ``Refusal``."""
        try:
            socket.send_fds(self._way, [received.to_bytes(8, "little")], [descriptor])
        except BlockingIOError:
            raise Refusal("Busy", "session: found connections that it has not taken yet; allowed: a few") from None
        except OSError:
            raise Refusal("SessionLost", "session: found one that has just ended") from None

    def let_go(self) -> None:
        """It ends when it sees that."""
        self._way.close()


class Sessions:
    """Those that live, by name. A name lets its holder go on with the session: nobody else is told."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._found: dict[str, Process] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._found)

    def find(self, name: str) -> Process:
        """Raises ``Refusal``."""
        with self._lock:
            if name not in self._found:
                raise Refusal("SessionLost", "session: found one that is not here any more")
            return self._found[name]

    def open(self, asked_bytes: int) -> Process:
        """A new one. Raises ``Refusal``."""
        most = self._offer.limit_bytes
        if most and asked_bytes > most:
            raise Refusal("Memory", f"gpu-mem: found {asked_bytes} bytes; allowed: up to {most}")
        with self._lock:
            if self._stopped:
                raise Refusal("Stopping", "session: found none; this executor ends")
            if len(self._found) >= self._offer.sessions:
                raise Refusal("Full", f"sessions: found {len(self._found)}, as many as are allowed")
            try:
                process = Process(secrets.token_hex(16), self._offer, asked_bytes or most)
            except OSError as error:
                raise Refusal("Unavailable", f"session: cannot be started: {error.strerror}") from None
            self._found[process.name] = process
        threading.Thread(target=self._await, args=(process,), daemon=True).start()
        return process

    def stop(self) -> None:
        """Ends all, and waits until they have ended."""
        with self._lock:
            self._stopped = True
            left = list(self._found.values())
        for process in left:
            process.let_go()
        deadline = time.monotonic() + END_S
        for process in left:
            try:
                process.child.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()

    def _await(self, process: Process) -> None:
        status = process.child.wait()
        with self._lock:
            del self._found[process.name]
        process.let_go()
        log.info("session ended", session=process.name[:8], status=status)
