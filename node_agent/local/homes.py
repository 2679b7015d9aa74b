"""Where the processes of a lease live, so that the agent knows them from others and can end them all.

A cgroup of its own, in the form of a pod's, where this process may make one; the family of the client's process where
it may not: then a process that leaves its session is still known, because the client adopts it.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from tessera.node_agent.cgroups import Container
from tessera.node_agent.kernel import HostKernel, kill_if
from tessera.node_agent.local.clients import Client, parent_and_start
from tessera.node_agent.processes import Process

_DEEPEST = 4096


class Home(Protocol):
    """The homes of all leases of an agent. Blocking; raises ``OSError``. ``held_by``: what they hold by, in words."""

    @property
    def held_by(self) -> str: ...

    def make(self, container: Container, client: Client) -> None:
        """Makes room for a lease of the process ``client``; one that is there already is no error."""
        ...

    def join(self, container: Container, pid: int) -> None:
        """Takes a process in; what it starts from now on is in as well."""
        ...

    def kill(self, container: Container) -> bool:
        """Kills whatever lives there; whether anything did."""
        ...

    def empty(self, container: Container) -> bool:
        """Whether nothing lives there any more."""
        ...

    def remove(self, container: Container) -> None:
        """Takes an empty home away; none is no error."""
        ...


class CgroupHomes:
    """``parent``: a folder of a cgroup hierarchy in which this process may make others."""

    held_by = "a cgroup of its own"

    def __init__(self, parent: Path) -> None:
        self._parent = parent

    def make(self, container: Container, client: Client) -> None:
        self._folder(container).mkdir(parents=True, exist_ok=True)

    def join(self, container: Container, pid: int) -> None:
        (self._folder(container) / "cgroup.procs").write_text(str(pid))

    def kill(self, container: Container) -> bool:
        switch = self._folder(container) / "cgroup.kill"
        members = self._members(container)
        if members and switch.exists():
            switch.write_text("1")
            return True
        for pid in members:
            with suppress(OSError):
                kill_if(HostKernel(), pid, partial(self._is_member, container, pid))
        return bool(members)

    def empty(self, container: Container) -> bool:
        return not self._members(container)

    def remove(self, container: Container) -> None:
        folder = self._folder(container)
        with suppress(FileNotFoundError):
            for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                below.rmdir()
            folder.rmdir()
            folder.parent.rmdir()

    def _is_member(self, container: Container, pid: int) -> bool:
        return pid in self._members(container)

    def _members(self, container: Container) -> list[int]:
        """Of the cgroup and of those that the command made in it."""
        folder = self._folder(container)
        files = [folder / "cgroup.procs", *folder.rglob("*/cgroup.procs")] if folder.is_dir() else []
        found: list[int] = []
        for file in files:
            with suppress(FileNotFoundError, OSError):
                found += map(int, file.read_text().split())
        return found

    def _folder(self, container: Container) -> Path:
        return self._parent / f"pod{container.pod_uid}" / container.container_id


class Families:
    """Homes, and the agent's port ``Processes``, by descent: whoever has a lease's client among its ancestors."""

    held_by = "cooperation, this user only"

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._kernel = HostKernel(proc)
        self._clients: dict[tuple[int, int], Container] = {}

    # Homes

    def make(self, container: Container, client: Client) -> None:
        self._clients[client.pid, client.started] = container

    def join(self, container: Container, pid: int) -> None:
        if self._container_of(pid) != container:
            raise PermissionError(f"process {pid} was not started by the lease's client")

    def kill(self, container: Container) -> bool:
        return sum(self._end(pid, container) for pid in self._members(container)) > 0

    def empty(self, container: Container) -> bool:
        return not self._members(container)

    def remove(self, container: Container) -> None:
        self._clients = {client: of for client, of in self._clients.items() if of != container}

    # The agent's processes

    def ticks(self) -> int:
        return self._kernel.ticks()

    def look(self, pid: int) -> Process | None:
        stat = self._stat(pid)
        return None if stat is None else Process(pid, stat[1], self._container_of(pid))

    def end(self, process: Process) -> bool:
        return process.container is not None and self._end(process.pid, process.container, process.started)

    def end_container(self, process: Process) -> int:
        if process.container is None or self.look(process.pid) != process:
            return 0
        return sum(self._end(pid, process.container) for pid in self._members(process.container))

    def _end(self, pid: int, container: Container, started: int | None = None) -> bool:
        def still() -> bool:
            now = self.look(pid)
            return now is not None and now.container == container and started in (None, now.started)

        try:
            return kill_if(self._kernel, pid, still)
        except PermissionError:
            return False  # it has become another user's

    def _members(self, container: Container) -> list[int]:
        return [pid for pid in self._kernel.pids() if self._container_of(pid) == container]

    def _container_of(self, pid: int) -> Container | None:
        """A client is not of its own lease: it ends by itself when nobody else is left."""
        stat = self._stat(pid)
        for _ in range(_DEEPEST):
            if stat is None or stat[0] == 0:
                return None
            parent, stat = stat[0], self._stat(stat[0])
            if stat is not None and (found := self._clients.get((parent, stat[1]))):
                return found
        return None

    def _stat(self, pid: int) -> tuple[int, int] | None:
        return parent_and_start(self._kernel, pid)


def homes_on(mount: Path = Path("/sys/fs/cgroup")) -> CgroupHomes | Families:
    """The best that this process may have."""
    parent = cgroup_parent(mount)
    return CgroupHomes(parent) if parent else Families()


def cgroup_parent(mount: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> Path | None:
    """A folder below which this process may make cgroups, which ends with ``tessera``; ``None``: it may not.

    Root takes the top of the unified hierarchy, or of the freezer's where there is none; a user what was delegated.
    """
    tops = [mount, _own(mount, proc)] if (mount / "cgroup.controllers").exists() else [mount / "freezer"]
    for top in tops:
        if not (top / "cgroup.procs").exists():
            continue
        parent = top / "tessera"
        with suppress(OSError):
            parent.mkdir(exist_ok=True)
            (trial := parent / f"try-{os.getpid()}").mkdir()
            trial.rmdir()
            return parent
    return None


def _own(mount: Path, proc: Path) -> Path:
    lines = (proc / "self" / "cgroup").read_text().splitlines()
    path = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "/")
    return mount / path.lstrip("/")
