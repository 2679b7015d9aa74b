"""Containers whose driver has an entry point that their shim does not know: it was not handed out, and a program that
needs it fails.

The shim leaves its name in the container's own file, which is read through a process of the container, be it that the
failure kept it from the GPU. People are told so, once for each container. Nothing is ended for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from tessera.node_agent.accounting import NameOf
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.demand import unknown_entry_point
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.kernel import Kernel
from tessera.node_agent.processes import Process, Processes
from tessera.node_agent.slices import Slice

REASON = "EntryPointUnknown"
EVERY = 8
"""Looks: each is one at all processes of the host."""


class NewerDriver:
    """``slices``: those with a shim; ``unknown``: what the file says to which a process leads."""

    def __init__(
        self,
        slices: Callable[[], Iterable[Slice]],
        processes: Processes,
        kernel: Kernel,
        name_of: NameOf,
        unknown: Callable[[int], str] = unknown_entry_point,
    ) -> None:
        self._slices, self._processes, self._kernel = slices, processes, kernel
        self._name_of, self._unknown = name_of, unknown
        self._looks = 0
        self._told: set[Container] = set()

    async def look(self) -> tuple[Incident, ...]:
        """What has newly been found."""
        self._looks += 1
        if self._looks % EVERY:
            return ()
        by_pod: dict[str, list[Slice]] = {}
        for item in self._slices():
            by_pod.setdefault(item.pod_uid, []).append(item)
        if not by_pod:
            return ()
        found = await asyncio.to_thread(self._find, by_pod)
        new = {container: name for container, name in found.items() if name and container not in self._told}
        self._told = (self._told & found.keys()) | new.keys()
        told = ((self._own(container, by_pod), container, name) for container, name in new.items())
        return tuple(_incident(own, container, name) for own, container, name in told if own)

    def _find(self, pods: Mapping[str, object]) -> dict[Container, str]:
        """By container what its file says; empty: nothing."""
        found: dict[Container, str] = {}
        for pid in self._kernel.pids():
            process = self._processes.look(pid)
            container = process.container if process else None
            if process and container and container.pod_uid in pods:
                found[container] = found.get(container) or self._name(process)
        return found

    def _name(self, process: Process) -> str:
        name = self._unknown(process.pid)
        return name if self._processes.look(process.pid) == process else ""

    def _own(self, container: Container, by_pod: Mapping[str, Sequence[Slice]]) -> Sequence[Slice]:
        """Until the container's name is known, all of its pod's."""
        name = self._name_of(container)
        return [item for item in by_pod[container.pod_uid] if name in (None, item.container)]


def _incident(own: Sequence[Slice], container: Container, name: str) -> Incident:
    text = (
        f"container {container.container_id[:12]}: the driver has a newer {name} than the library that refuses what is "
        "over its limit; it was not handed out, and a program that needs it fails until the agent's image knows it"
    )
    return Incident(own[0].shares[0].uuid, REASON, text, tuple(item.id for item in own))
