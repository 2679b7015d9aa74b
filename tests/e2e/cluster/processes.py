"""One started program: its log, its readiness by a condition, and its end by PID.

Every process carries `TESSERA_E2E_DIR` in its environment, and so do its children: that is how teardown
finds all that a cluster started, also after the test run itself was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e import programs

MARK = "TESSERA_E2E_DIR"


class NotReady(RuntimeError):
    """A condition did not hold in time, or the process it speaks of has ended."""


def wait_until(what: str, condition: Callable[[], object], timeout_s: float = 60, every_s: float = 0.1) -> object:
    """Returns the first true value of `condition`; an exception of the outside world counts as not yet."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except NotReady:
            raise
        except Exception as error:  # the far side is still starting
            last = error
        time.sleep(every_s)
    raise NotReady(f"not within {timeout_s:.0f} s: {what} (last: {last!r})")


class Process:
    """A program with fixed arguments that can be started, killed, restarted and stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        ready: Callable[[], object],
        environment: Mapping[str, str] | None = None,
        ready_timeout_s: float = 90,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = directory / "logs" / f"{name}.log"
        self._ready = ready
        self._ready_timeout_s = ready_timeout_s
        self._environment = {
            **os.environ, "PATH": programs.search_path(), MARK: str(directory), **(environment or {})
        }  # fmt: skip
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> Process:
        """Starts without waiting; the log is appended to, so that it tells of every life."""
        assert not self.running, f"{self.name} runs already as {self.pid}"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"--- {' '.join(self.command)}\n".encode())
            log.flush()
            self._popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        return self

    def wait_ready(self) -> Process:
        """Waits for the condition given at construction; ends early, with the log's tail, on a dead process."""
        wait_until(f"{self.name} ready", self._ready_or_dead, self._ready_timeout_s)
        return self

    def _ready_or_dead(self) -> object:
        if not self.running:
            code = self._popen.returncode if self._popen else None
            raise NotReady(f"{self.name} ended with {code}; {self.log} ends:\n{self.log_tail()}")
        return self._ready()

    def kill9(self) -> None:
        """SIGKILL, and back once the process is gone. Its children live on, as after a crash."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        if self._popen:
            self._popen.wait()

    def stop(self, grace_s: float = 10) -> None:
        """SIGTERM, then SIGKILL after `grace_s`. Nothing happens to a process that has ended."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
            try:
                self._popen.wait(grace_s)  # type: ignore[union-attr]
            except subprocess.TimeoutExpired:
                self.kill9()

    def restart(self) -> Process:
        """Ends it if it still runs, starts it again and waits until it is ready."""
        self.stop()
        return self.start().wait_ready()

    def log_tail(self, lines: int = 25) -> str:
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(line[:300] for line in last)


def marked(directory: Path) -> Iterator[int]:
    """PIDs of all living processes that this cluster started, and of their children."""
    mark = f"{MARK}={directory}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
            except OSError:  # ended meanwhile
                continue


def kill_all(find: Callable[[], set[int]], what: str) -> None:
    """SIGKILL to all that `find` names, until it names none. This process itself is spared."""

    def none_left() -> bool:
        pids = {pid for pid in find() if pid != os.getpid() and not _is_zombie(pid)}
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not pids

    wait_until(f"{what} gone", none_left, timeout_s=30, every_s=0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True
