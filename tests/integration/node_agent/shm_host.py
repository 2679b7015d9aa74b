"""A host with mounts of its own, the node agent's port to them, and processes that have files in a tmpfs there."""

import subprocess
import sys
from pathlib import Path

from tessera.node_agent.enforcement.mps_groups import Extent
from tessera.node_agent.enforcement.shm_files import ShmUsers
from tessera.node_agent.enforcement.shm_group import GroupShm, ShmNode
from tessera.node_agent.enforcement.shm_mounts import HostMounts
from tests.integration.node_agent.test_mps import GPU, Node

MIB = 1 << 20
HOLDS = """
import mmap, os, sys
path, how, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
file = os.open(path, os.O_RDWR | os.O_CREAT)
os.write(file, b"x" * size)
kept = mmap.mmap(file, size) if how == "mapped" else None
if how != "open":
    os.close(file)
print("ready", flush=True)
sys.stdin.read()
"""


class ShmHost(Node):
    """``proc``: the processes of its containers; ``container_of``: the container of one; ``own``: what pods give
    their containers, by UID."""

    def __init__(self, folder: Path) -> None:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"]
        self.init = _started(command)
        self.mounts = HostMounts(Path(f"/proc/{self.init.pid}"))
        self.container_of, self.own, self.holders = {}, {}, []
        self.proc = folder / "processes"
        self.proc.mkdir()
        super().__init__(folder, extent=Extent.GPU, shm_of=self._shm_of, answer_s=60.0)

    def start(self):
        """The agent, anew."""
        restored = frozenset(item.id for item in self.slices)
        lives = lambda pid: (self.proc / str(pid)).exists()  # noqa: E731
        users = ShmUsers(self.proc, lambda pid: self.container_of.get(pid, "") if lives(pid) else "")
        self.shm_node = ShmNode(self.mounts, MIB, self._own, users, restored, clock=self.clock)
        super().start()

    def _shm_of(self, folder: Path) -> GroupShm:
        return GroupShm(folder, self.shm_node)

    def _own(self, pod_uid, container):
        return self.own.get(pod_uid)

    @property
    def path(self) -> Path:
        return self.folder / GPU / "shm"

    @property
    def seen(self) -> Path:
        return self.mounts.seen(self.path)

    @staticmethod
    def own_device(path) -> int:
        """What is at a path in the agent's own mount namespace."""
        return Path(path).stat().st_dev

    def mounted(self) -> list[str]:
        """The lines of the host's mounts that are the group's."""
        lines = Path(f"/proc/{self.init.pid}/mountinfo").read_text().splitlines()
        return [line for line in lines if line.split()[4] == str(self.path)]

    def hold(self, name, container, how="open", size=4096):
        """A process of a container makes a file and keeps it ``open``, ``mapped``, or does neither."""
        enter = ["nsenter", f"--mount=/proc/{self.init.pid}/ns/mnt"]
        holder = _started([*enter, sys.executable, "-c", HOLDS, str(self.path / name), how, str(size)])
        self.container_of[holder.pid] = container
        (self.proc / str(holder.pid)).symlink_to(f"/proc/{holder.pid}")
        self.holders.append(holder)
        return holder

    async def look(self):
        """At once, whenever the last look was."""
        self.clock.now += 3600
        return await self.limiter.look_after_shm()

    async def admit(self, name, mem=1 << 30):
        return await self.limiter.prepare(self.give(name, mem))

    async def release(self, name):
        (item,) = (item for item in self.slices if item.id == name)
        self.slices.remove(item)
        await self.limiter.release(item)

    def close(self):
        for process in (*self.holders, self.init):
            end(process)


def end(process):
    process.stdin.close()
    process.wait()
    process.stdout.close()


def _started(command):
    """A process that has said ``ready`` and runs until its standard input ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    return process
