"""The host's processes: whose they are, and how to end exactly the one that was meant.

A process id may be given to another process at any time. So a process is named by id, start time and container
together, and it is held by a pidfd before these are read again; only then is it signalled. Needs the host's process
ids (hostPID): they are the ones that NVML reports.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tessera.node_agent.cgroups import Container, Membership, membership_of
from tessera.node_agent.kernel import START_FIELD, HostKernel, Kernel, kill_if, stat_field

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its id on the host, start time in clock ticks since boot, and container (``None``: of no pod)."""

    pid: int
    started: int
    container: Container | None


class Processes(Protocol):
    """What the agent asks of the host's processes."""

    def ticks(self) -> int:
        """Now, in the unit of ``Process.started``."""
        ...

    def look(self, pid: int) -> Process | None:
        """The process of this id now, or ``None`` if there is none."""
        ...

    def end(self, process: Process) -> bool:
        """Kills ``process`` if it is still the same one in the same container; says whether it was signalled."""
        ...

    def end_container(self, process: Process) -> int:
        """Kills every process of the container of ``process``; says how many processes it had (at least), 0: gone."""
        ...


class HostProcesses:
    """The real ones, by /proc and the cgroup file system."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroup_mount: Path = Path("/sys/fs/cgroup"),
        cgroup_root: str = "",
        kernel: Kernel | None = None,
    ) -> None:
        self._kernel = kernel or HostKernel(proc)
        self._mount = cgroup_mount
        self._root = cgroup_root

    def ticks(self) -> int:
        return self._kernel.ticks()

    def look(self, pid: int) -> Process | None:
        found = self._read(pid)
        return found[0] if found else None

    def end(self, process: Process) -> bool:
        return process.container is not None and kill_if(
            self._kernel, process.pid, lambda: self.look(process.pid) == process
        )

    def end_container(self, process: Process) -> int:
        found = self._read(process.pid)
        if found is None or found[0] != process or found[1] is None or not self._is_own(process.pid):
            return 0
        group = self._directory(found[1])
        members = len(_members(group)) if group else 0
        if group and _kill_group(group):
            return max(members, 1)
        with _frozen(group):
            return self._end_members(found[1].container)

    def _is_own(self, pid: int) -> bool:
        """Whether the process is one that can be ended: /proc may be another machine's."""
        try:
            self._kernel.close(self._kernel.open(pid))
        except OSError:
            return False
        return True

    def _read(self, pid: int) -> tuple[Process, Membership | None] | None:
        try:
            stat, lines = self._kernel.read(pid, "stat"), self._kernel.read(pid, "cgroup")
            started = int(stat_field(stat, START_FIELD))
        except (OSError, IndexError, ValueError):
            return None
        member = membership_of(lines, self._root)
        return Process(pid, started, member.container if member else None), member

    def _directory(self, member: Membership) -> Path | None:
        hierarchies = [self._mount, self._mount / "unified"] if not member.controller else []
        hierarchies += [self._mount / "freezer", self._mount / member.controller]
        relative = member.path.lstrip("/")
        if ".." in relative.split("/"):
            return None
        return next((h / relative for h in hierarchies if (h / relative / "cgroup.procs").is_file()), None)

    def _end_members(self, container: Container) -> int:
        """Ends them one by one, in rounds, because a member may fork while others are ended."""
        ended: set[tuple[int, int]] = set()
        for _ in range(_ROUNDS):
            members = [p for p in self._all() if p.container == container and (p.pid, p.started) not in ended]
            for member in members:
                if self.end(member):
                    ended.add((member.pid, member.started))
            if not members:
                break
        return len(ended)

    def _all(self) -> Iterator[Process]:
        for pid in self._kernel.pids():
            if found := self.look(pid):
                yield found


def _members(group: Path) -> list[str]:
    try:
        return (group / "cgroup.procs").read_text().split()
    except OSError:
        return []


def _kill_group(group: Path) -> bool:
    """cgroup.kill: cgroup v2 from Linux 5.14 on."""
    if not (group / "cgroup.kill").exists():
        return False
    try:
        (group / "cgroup.kill").write_text("1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _frozen(group: Path | None) -> Iterator[None]:
    """Holds the group still meanwhile, where it can be: nothing forks away, and the killed die at the thaw."""
    files = {"freezer.state": ("FROZEN", "THAWED"), "cgroup.freeze": ("1", "0")}
    switch = next(((group / name, *on) for name, on in files.items() if group and (group / name).exists()), None)
    if switch is None:
        yield
        return
    path, freeze, thaw = switch
    with contextlib.suppress(OSError):
        path.write_text(freeze)
        _await_frozen(path, freeze)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.write_text(thaw)


def _await_frozen(path: Path, wanted: str, limit_s: float = 0.2) -> None:
    deadline = time.monotonic() + limit_s
    while path.read_text().strip() != wanted and time.monotonic() < deadline:
        time.sleep(0.005)
