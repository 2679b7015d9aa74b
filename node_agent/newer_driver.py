"""Containers whose driver has an entry point that their shim does not know: it was not handed out, and a program that
needs it fails.

The shim leaves its name in the container's own file, which is read through a process of the container, be it that the
failure kept it from the GPU. People are told so, once for each container. Nothing is ended for it.
"""

import asyncio
from collections.abc import Callable, Sequence

from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.demand import unknown_entry_point
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.slice_containers import SliceContainers
from tessera.node_agent.slices import Slice

REASON = "EntryPointUnknown"
EVERY = 8
"""Looks: each is one at all processes of the host."""


class NewerDriver:
    """``containers``: those with a shim; ``unknown``: what the file says to which a process leads."""

    def __init__(self, containers: SliceContainers, unknown: Callable[[int], str] = unknown_entry_point) -> None:
        self._containers, self._unknown = containers, unknown
        self._looks = 0
        self._told: set[Container] = set()

    async def look(self) -> tuple[Incident, ...]:
        """What has newly been found."""
        self._looks += 1
        if self._looks % EVERY:
            return ()
        found = await asyncio.to_thread(self._containers.ask, self._unknown)
        names = {container: next(filter(None, answers), "") for container, answers in found.items()}
        new = {container: name for container, name in names.items() if name and container not in self._told}
        self._told = (self._told & found.keys()) | new.keys()
        told = ((self._containers.own(container), container, name) for container, name in new.items())
        return tuple(_incident(own, container, name) for own, container, name in told if own)


def _incident(own: Sequence[Slice], container: Container, name: str) -> Incident:
    text = (
        f"container {container.container_id[:12]}: the driver has a newer {name} than the library that refuses what is "
        "over its limit; it was not handed out, and a program that needs it fails until the agent's image knows it"
    )
    return Incident(own[0].shares[0].uuid, REASON, text, tuple(item.id for item in own))
