"""A host whose processes come and go while the agent looks: its kernel and its driver, seen from the agent.

Before each call that the agent makes of either, something may happen: a process ends and its id goes to another, one
moves to another cgroup, one forks. What the kernel was made to kill is kept, with the container that it was in.
"""

import itertools
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from tessera.node_agent.nvml import Device, GpuProcess, NvmlError, Reading, Xid

GPU = "GPU-00000000-0000-0000-0000-000000000000"
MIB = 1 << 20
HOST = ""


@dataclass(eq=False, slots=True)
class Task:
    """A process; ``path``: its cgroup, ``HOST`` for none of a pod."""

    pid: int
    started: int
    path: str
    used_bytes: int


@dataclass
class Killed:
    """A process that was killed, the cgroup that it was in then, and when."""

    task: Task
    path: str
    at: float


@dataclass
class MovingHost:
    """``unrest``: how likely something happens before a call. ``now``: seconds, moved by the test."""

    seed: int
    unrest: float
    now: float = 1000.0
    tasks: dict[int, Task] = field(default_factory=dict)
    killed: list[Killed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._ticks, self._handles = itertools.count(1), itertools.count(1)
        self._open: dict[int, Task] = {}
        self._stale: list[GpuProcess] = []
        self.still = False

    # What the test does

    def start(self, path: str, used_mib: int, pid: int = 0) -> Task:
        """A process begins, under a given id or a fresh one."""
        made = Task(pid or self._free_pid(), next(self._ticks), path, used_mib * MIB)
        self.tasks[made.pid] = made
        return made

    def used(self, path: str) -> int:
        """Bytes of a cgroup."""
        return sum(task.used_bytes for task in self.tasks.values() if task.path == path)

    def by_path(self) -> dict[str, int]:
        """Bytes of each cgroup."""
        found: dict[str, int] = {}
        for task in self.tasks.values():
            found[task.path] = found.get(task.path, 0) + task.used_bytes
        return found

    # The kernel

    def ticks(self) -> int:
        return next(self._ticks)

    def pids(self) -> Iterable[int]:
        self._happen()
        return list(self.tasks)

    def read(self, pid: int, name: str) -> str:
        self._happen()
        task = self.tasks.get(pid)
        if task is None:
            raise FileNotFoundError(pid)
        if name == "stat":
            return f"{pid} (a) b) S {'0 ' * 18}{task.started} 0\n"
        return f"0::{task.path or '/system.slice/some.service'}\n"

    def open(self, pid: int) -> int:
        self._happen()
        if pid not in self.tasks:
            raise ProcessLookupError(pid)
        handle = next(self._handles)
        self._open[handle] = self.tasks[pid]
        return handle

    def kill(self, handle: int) -> None:
        self._happen(moves=False)  # from the last look to the signal nobody can rule out a move
        task = self._open[handle]
        if self.tasks.get(task.pid) is not task:
            raise ProcessLookupError(task.pid)
        self.killed.append(Killed(task, task.path, self.now))
        self._end(task)

    def close(self, handle: int) -> None:
        del self._open[handle]

    # The driver, which may tell of a process for a while after its end

    def processes(self, uuid: str) -> tuple[GpuProcess, ...]:
        self._happen()
        if self.chance.random() < self.unrest / 20:
            raise NvmlError("nvmlDeviceGetComputeRunningProcesses", 999, "unknown")
        told = [GpuProcess(t.pid, GPU, t.used_bytes) for t in self.tasks.values() if t.used_bytes]
        stale, self._stale = self._stale, []
        known = {one.pid for one in told}
        return (*told, *(one for one in stale if one.pid not in known))

    def reading(self) -> Reading:
        """One GPU."""
        return Reading((Device(GPU, 0, "H100", 1 << 40, 0, 132, "9.0", 0, ()),))

    def next_xid(self) -> Xid | None:
        """None ever."""
        return None

    # What happens meanwhile

    def _happen(self, *, moves: bool = True) -> None:
        if self.still or self.chance.random() >= self.unrest or not self.tasks:
            return
        task = self.chance.choice(list(self.tasks.values()))
        what = self.chance.choice(("end", "reuse", "reuse", "move", "fork"))
        if what == "end":
            self._end(task)
        elif what == "reuse":
            self._end(task)
            self.start(self.chance.choice((HOST, *self._paths())), self.chance.choice((0, 1, 100)), task.pid)
        elif what == "move" and moves:
            task.path = HOST
        elif what == "fork" and moves:
            self.start(task.path, 0)

    def _paths(self) -> list[str]:
        return sorted({task.path for task in self.tasks.values() if task.path})

    def _end(self, task: Task) -> None:
        self._stale.append(GpuProcess(task.pid, GPU, task.used_bytes))
        del self.tasks[task.pid]

    def _free_pid(self) -> int:
        return next(pid for _ in iter(int, 1) if (pid := self.chance.randrange(2, 4_000_000)) not in self.tasks)


def pod_uid(chance: random.Random) -> str:
    """Of a pod."""
    return str(uuid.UUID(int=chance.getrandbits(128)))


def cgroup(pod: str, chance: random.Random) -> str:
    """Of a fresh container of a pod."""
    return f"/kubepods/burstable/pod{pod}/{chance.getrandbits(256):064x}"
