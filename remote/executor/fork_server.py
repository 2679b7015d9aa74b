"""A process that has imported torch and does nothing with it: those of the sessions are forked from it.

So a session begins in the time of a fork, and all sessions of a machine share the memory of torch's libraries. It
computes nothing and asks no GPU anything, since CUDA does not work in the fork of a process that has. It is told no
key, no session's name and nothing of a client, so there is nothing for a session to inherit.
"""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tessera.remote.executor.forks import MOST_BYTES, MOST_DESCRIPTORS, Began, Ended, Facts, Start, encode

_SET_DEATH_SIGNAL = 1
_BADNESS, _SOONER, _MOST = Path("/proc/self/oom_score_adj"), 100, 1000
_LIBC = ctypes.CDLL(None)

Work = Callable[[Start, list[int]], int]
"""What a session's process does with its descriptors; answers its exit status."""


class _Server:
    """Serves who has the other end of ``way``."""

    def __init__(self, way: socket.socket, work: Work) -> None:
        self._way, self._work = way, work
        self._running: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until nobody orders any more. What runs then ends with this process."""
        while True:
            ready, _, _ = select.select([self._way.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, MOST_BYTES)
                self._bury()
            if self._way.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._way, MOST_BYTES, MOST_DESCRIPTORS)
        if not data:
            return False
        said = json.loads(data)
        number = said["number"]
        if "start" in said:
            self._start(number, Start(**said["start"]), descriptors)
        elif number in self._pids:
            os.kill(self._pids[number], signal.SIGKILL)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, number: int, start: Start, descriptors: list[int]) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._way.sendall(encode(Ended(number, 1, f"its process cannot be started: {error.strerror}")))
            return
        if not pid:
            self._become(server, start, descriptors)
        self._running[pid], self._pids[number] = number, pid
        self._way.sendall(encode(Began(number, pid)))

    def _become(self, server: int, start: Start, descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            end_with(server)
            _go_first()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._way.close()
            os.close(self._woken)
            os.close(self._wakes)
            os.setsid()
            status = self._work(start, descriptors)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    def _bury(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._running.pop(pid)
            del self._pids[number]
            self._way.sendall(encode(Ended(number, os.waitstatus_to_exitcode(status))))


def end_with(parent: int) -> None:
    """This process ends when the thread of ``parent`` does that has forked it."""
    _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _go_first() -> None:
    """Where memory runs out this process is killed before the fork server, with which all others would end."""
    with contextlib.suppress(OSError):
        _BADNESS.write_text(str(min(int(_BADNESS.read_text()) + _SOONER, _MOST)))


def _gpus() -> int:
    """How many torch sees, found by a process that does nothing else."""
    reading, writing = os.pipe()
    if not os.fork():
        import torch

        os.write(writing, str(torch.cuda.device_count()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.wait()
    return int(found or 0)


def main() -> int:
    """The one argument: the descriptor of a socket that brings orders."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    way = socket.socket(fileno=int(sys.argv[1]))
    try:
        import torch
    except (ImportError, OSError) as error:
        way.sendall(encode(Facts(failed=f"torch: found none ({error}); allowed: an installed one")))
        return 1
    from tessera.remote.executor.session import serve

    gc.collect()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):  # who orders is gone
        way.sendall(encode(Facts(torch.__version__, _gpus())))
        _Server(way, serve).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
