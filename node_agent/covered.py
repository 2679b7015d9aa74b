"""Mounts of ours that something else lies on in the container: a volume, by a link of the image or a folder above.

The program that uses the GPU then does not see the files that hold it to its slice. It is no fault of the node's, the
watcher holds it all the same, and people are told so, once for each container.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable

from tessera.node_agent.accounting import Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.mountinfo import Mount, mounts_of
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.enforcement.shim import LEDGER_IN_CONTAINER, NAME
from tessera.node_agent.kernel import Kernel
from tessera.node_agent.processes import Process, Processes

REASON = "MountCovered"
_OF_SHIM = re.compile(rf"/[0-9a-f]{{16}}/(?:{re.escape(NAME)}|ld\.so\.preload)$")


def covered(mountinfo: str, slices: Collection[str]) -> tuple[str, ...]:
    """Where in a container, by its /proc/PID/mountinfo, files of ours are that cannot be seen there. Pure.

    ``slices``: their ids, which are the names of their folders. What is not mounted at all is not told of.
    """
    mounts = {mount.number: mount for mount in mounts_of(mountinfo)}
    ours = [mount for mount in mounts.values() if _is_ours(mount, slices)]
    return tuple(sorted({mount.point for mount in ours if _hidden(mount, mounts)}))


def _is_ours(mount: Mount, slices: Collection[str]) -> bool:
    if mount.type == "tmpfs" and mount.point == LEDGER_IN_CONTAINER:
        return True
    return bool(_OF_SHIM.search(mount.root)) or any(mount.root.endswith(f"/slices/{name}") for name in slices)


def _hidden(mount: Mount, mounts: dict[int, Mount], inner: Mount | None = None) -> bool:
    """Whether another than ``inner`` lies on it, on a folder above it, or on the mount that it is in."""
    within = [other for other in mounts.values() if other.parent == mount.number and other not in (inner, mount)]
    if any(other.point == mount.point for other in within):
        return True
    above = mounts.get(mount.parent)
    if above is None or above == mount:
        return False
    beside = [other for other in mounts.values() if other.parent == above.number and other not in (above, mount)]
    if any(mount.point.startswith(f"{other.point.rstrip('/')}/") for other in beside):
        return True
    return _hidden(above, mounts, mount)


class Covered:
    """``usages``: of the last look. A container's mounts are those of its oldest program on the GPU, looked at once."""

    def __init__(self, usages: Callable[[], Iterable[Usage]], processes: Processes, kernel: Kernel) -> None:
        self._usages, self._processes, self._kernel = usages, processes, kernel
        self._looked: set[Container] = set()

    async def look(self) -> tuple[Incident, ...]:
        """What has newly been found."""
        usages = {usage.container: usage for usage in self._usages() if usage.slices and usage.clients}
        self._looked &= usages.keys()
        found = []
        for container in usages.keys() - self._looked:
            usage = usages[container]
            first = min((client.process for client in usage.clients), key=lambda process: process.started)
            points = await asyncio.to_thread(self._points, first, usage.slices)
            if points is not None:
                self._looked.add(container)
            if points:
                found.append(_incident(usage, points))
        return tuple(found)

    def _points(self, process: Process, slices: Collection[str]) -> tuple[str, ...] | None:
        """``None``: it cannot be read, or has ended meanwhile."""
        try:
            text = self._kernel.read(process.pid, "mountinfo")
        except OSError:
            return None
        return covered(text, slices) if self._processes.look(process.pid) == process else None


def _incident(usage: Usage, points: tuple[str, ...]) -> Incident:
    text = f"container {usage.container.container_id[:12]}: something else lies on {', '.join(points)}"
    text += ", so its programs do not see what holds them to their slice; the watcher ends what takes more"
    return Incident(usage.gpu_uuid, REASON, text, usage.slices)
