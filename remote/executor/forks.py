"""The way to a fork server: asks it for processes of sessions, and hears when they end.

It is a process beside this one (``fork_server``), made anew when it is needed and there is none.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass

MOST_BYTES, MOST_DESCRIPTORS = 8192, 3
READY_S = 120.0
"""It has imported torch within this, however busy the machine is."""
END_S = 5.0
"""It may take so long to end; then it is killed."""
_ERRORS = 2


class ForkServerError(Exception):
    """There is none, in a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What it has found: the version of ``torch``, and how many ``gpus`` that sees; or why it has ``failed``."""

    torch: str = ""
    gpus: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """What a session's process is told before it is forked. No secret: what the fork server reads others may inherit.

    ``slot``: of the meters and the quota that it is passed, 0 before it is known; ``restore``: it becomes a session
    that it is brought.
    """

    device: str
    limit_bytes: int
    grace_s: float
    epoch: int
    slot: int
    restore: bool


@dataclass(frozen=True, slots=True)
class Began:
    """The process ``number``."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The process ``number``, with this exit ``status``, negative for a signal; or it never began, and why."""

    number: int
    status: int
    failed: str = ""


class Child:
    """A session's process. ``pid``: 0 before it is known."""

    def __init__(self, number: int, forks: "ForkServer") -> None:
        self.number, self.pid, self._forks = number, 0, forks
        self.ended: Future[Ended] = Future()
        self.told = threading.Event()
        """Set once whoever waited for its end has been called."""

    def running(self) -> bool:
        return not self.ended.done()

    def wait(self, within_s: float | None = None) -> Ended:
        """Raises ``TimeoutError``."""
        return self.ended.result(within_s)

    def kill(self) -> None:
        self._forks.kill(self.number)


class ForkServer:
    """Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._way: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._facts: Future[Facts] = Future()
        self._children: dict[int, Child] = {}
        self._number = 0

    def facts(self) -> Facts:
        """Once it is ready. Raises ``ForkServerError``."""
        with self._lock:
            self._begun()
            coming = self._facts
        try:
            facts = coming.result(READY_S)
        except TimeoutError:
            raise ForkServerError(f"fork server: found none that is ready within {READY_S:.0f} s") from None
        if facts.failed:
            raise ForkServerError(facts.failed)
        return facts

    def start(self, start: Start, descriptors: Sequence[int]) -> Child:
        """A process with its ends of ``descriptors``: of gate, meters and, if it has one, quota. Raises ``OSError``."""
        with self._lock:
            way = self._begun()
            self._number += 1
            socket.send_fds(way, [json.dumps({"number": self._number, "start": asdict(start)}).encode()], descriptors)
            child = self._children[self._number] = Child(self._number, self)
            return child

    def kill(self, number: int) -> None:
        """At once, if it still runs."""
        with self._lock:
            if self._way is not None and number in self._children:
                with contextlib.suppress(OSError):  # it is gone, and what it has started with it
                    self._way.sendall(json.dumps({"number": number}).encode())

    def close(self) -> None:
        """Ends it, and with it what it has started; waits until it has ended."""
        with self._lock:
            process, way = self._process, self._way
            if way is not None:
                way.shutdown(socket.SHUT_WR)
        if process is None:
            return
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _begun(self) -> socket.socket:
        """Raises ``OSError``."""
        if self._way is not None:
            return self._way
        way, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            command = [sys.executable, "-m", "tessera.remote.executor.fork_server", str(its.fileno())]
            try:
                process = subprocess.Popen(
                    command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=_ERRORS, start_new_session=True
                )
            except OSError:
                way.close()
                raise
        self._way, self._process, self._facts = way, process, Future()
        threading.Thread(target=self._hear, args=(way, process, self._facts), daemon=True).start()
        return way

    def _hear(self, way: socket.socket, process: "subprocess.Popen[bytes]", facts: "Future[Facts]") -> None:
        """Until it is gone: then all that it had started are."""
        with way:
            while data := _received(way):
                said = json.loads(data)
                if not facts.done():
                    facts.set_result(Facts(**said))
                elif "pid" in said:
                    with self._lock:  # until whoever started it has it on its list
                        self._children[said["number"]].pid = said["pid"]
                else:
                    self._over(Ended(**said))
            status = process.wait()
            with self._lock:
                self._way = None
                left = list(self._children.values())
        if not facts.done():
            facts.set_result(Facts(failed=f"fork server: found its end with status {status} before it was ready"))
        for child in left:
            self._over(Ended(child.number, -signal.SIGKILL))
        for child in left:
            _bury(child.pid)

    def _over(self, ended: Ended) -> None:
        with self._lock:
            child = self._children.pop(ended.number)
        child.ended.set_result(ended)
        child.told.set()


def encode(said: Facts | Began | Ended) -> bytes:
    return json.dumps(asdict(said)).encode()


def _bury(pid: int) -> None:
    """Where this is the first process of its namespace, as in a container, what has lost its parent is its child."""
    with contextlib.suppress(ChildProcessError):
        if pid:
            os.waitpid(pid, 0)


def _received(way: socket.socket) -> bytes:
    try:
        return way.recv(MOST_BYTES)
    except OSError:
        return b""
