"""Processes of a simulated host: a folder that stands for /proc, where to end a process is to remove its entry.

``<folder>/<pid>/cgroup``, ``stat``, ``maps``, ``mountinfo`` and ``fd`` have the form of the kernel's. Whoever simulates
the containers sees an entry vanish and takes that as the process's end.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import HostProcesses, Process


class FakeProcesses:
    """The node agent's port ``Processes`` over a folder, plus what the simulated container runtime needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._reader = HostProcesses(proc=folder)

    # For the agent

    def ticks(self) -> int:
        """Later than every start: those are made up."""
        return 1 << 62

    def look(self, pid: int) -> Process | None:
        return self._reader.look(pid)

    def end(self, process: Process) -> bool:
        return process.container is not None and self.look(process.pid) == process and self.remove(process.pid)

    def end_container(self, process: Process) -> int:
        if process.container is None or self.look(process.pid) != process:
            return 0
        members = [p for pid in self.pids() if (p := self.look(pid)) and p.container == process.container]
        return sum(self.remove(member.pid) for member in members)

    # For the simulated container runtime

    def start(self, pid: int, pod_uid: str = "", container_id: str = "", *, started: int = 1, cgroup: str = "",
              maps: str = "", mounts: str = "", opened: Sequence[str] = ()) -> None:  # fmt: skip
        """A process appears, in a container (64 hex digits) or in the cgroup line given; replaces one of this id.

        ``maps``, ``mounts`` and ``opened``: what it has mapped, mounted and open.
        """
        path = f"/kubepods/burstable/pod{pod_uid}/{container_id}" if pod_uid else "/system.slice/host.service"
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        (made / "cgroup").write_text((cgroup or f"0::{path}") + "\n")
        (made / "stat").write_text(f"{pid} (simulated) S " + "0 " * 18 + f"{started} 0\n")
        (made / "maps").write_text(maps)
        (made / "mountinfo").write_text(mounts)
        (made / "fd").mkdir()
        for number, name in enumerate(opened):
            (made / "fd" / str(number)).symlink_to(name)
        self.remove(pid)
        made.rename(self._folder / str(pid))

    def remove(self, pid: int) -> bool:
        """The process is gone; says whether it was there."""
        gone = self._folder / f".gone-{pid}-{os.urandom(4).hex()}"
        try:
            (self._folder / str(pid)).rename(gone)
        except FileNotFoundError:
            return False
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def pids(self) -> set[int]:
        """The ids of all processes."""
        return {int(entry.name) for entry in self._folder.iterdir() if entry.name.isdigit()}

    def container_of(self, pid: int) -> Container | None:
        """The container of a process."""
        found = self.look(pid)
        return found.container if found else None
