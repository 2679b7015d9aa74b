"""Where the processes of a lease live, so that the agent knows them from others and can end them all.

A cgroup of its own, in the form of a pod's, where this process may make one. Where it may not, the family: whoever has
the lease's mounts, or descends from such a process or from the client, which adopts what leaves its session.
"""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from tessera.node_agent.cgroups import Container
from tessera.node_agent.kernel import HostKernel, kill_if
from tessera.node_agent.local.clients import Client, parent_and_start
from tessera.node_agent.local.marks import home_of, lease_of
from tessera.node_agent.processes import Process

_DEEPEST = 4096


class Home(Protocol):
    """The homes of all leases of an agent. Blocking; raises ``OSError``. ``held_by``: what they hold by, in words."""

    @property
    def held_by(self) -> str: ...

    def make(self, container: Container, client: Client | None) -> None:
        """Makes room for a lease of the process ``client``; one that is there already is no error.

        Again by every agent that comes to look after the lease. ``None``: it is not known any more.
        """
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

    def make(self, container: Container, client: Client | None) -> None:
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
    """Homes, and the agent's port ``Processes``, by mounts and descent: nothing of it is lost with this process."""

    held_by = "cooperation, this user only"

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._kernel = HostKernel(proc)
        self._made: dict[str, Container] = {}
        self._clients: dict[tuple[int, int], Container] = {}

    # Homes

    def make(self, container: Container, client: Client | None) -> None:
        self._made[container.container_id] = container
        if client is not None:
            self._clients[client.pid, client.started] = container

    def join(self, container: Container, pid: int) -> None:
        if self._container_of(pid) != container:
            raise PermissionError(f"process {pid} was not started by the lease's client")

    def kill(self, container: Container) -> bool:
        return sum(self._end(pid, container) for pid in self._members(container)) > 0

    def empty(self, container: Container) -> bool:
        return not self._members(container)

    def remove(self, container: Container) -> None:
        # Others come meanwhile, in other threads.
        for client in [client for client, of in list(self._clients.items()) if of == container]:
            self._clients.pop(client, None)
        self._made.pop(container.container_id, None)

    # The agent's processes

    def ticks(self) -> int:
        return self._kernel.ticks()

    def look(self, pid: int) -> Process | None:
        stat = parent_and_start(self._kernel, pid)
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
        known: dict[int, Container | None] = {}
        return [pid for pid in self._kernel.pids() if self._container_of(pid, known) == container]

    def _container_of(self, pid: int, known: dict[int, Container | None] | None = None) -> Container | None:
        """``known``: what this look at the processes has found, from which it goes on.

        A client is not of its own lease: it ends by itself when nobody else is left.
        """
        known = {} if known is None else known
        line: list[int] = []
        found: Container | None = None
        while pid not in known and found is None and len(line) < _DEEPEST:
            stat = parent_and_start(self._kernel, pid)
            if stat is None or stat[0] == 0:
                break
            line.append(pid)
            found, pid = self._by_mounts(pid) or self._by_client(stat[0]), stat[0]
        found = found or known.get(pid)
        known.update(dict.fromkeys(line, found))
        return found

    def _by_mounts(self, pid: int) -> Container | None:
        try:
            return self._made.get(home_of(lease_of(self._kernel.read(pid, "mountinfo"))))
        except OSError:
            return None  # another user's, or it hides from its own: then by descent

    def _by_client(self, pid: int) -> Container | None:
        stat = parent_and_start(self._kernel, pid)
        return self._clients.get((pid, stat[1])) if stat else None


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
