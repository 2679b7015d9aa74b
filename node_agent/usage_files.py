"""Containers whose usage file is not what the shim writes: its programs get no memory, or somebody writes to it.

The file is the container's, and nothing is enforced by it, so nothing is ended for it and limits stay as they are.
People are told so, once for each container, and it stands against the slice's GPUs as long as it is so. Who has no such
file says nothing: a program that has not asked for the driver yet, or is static.
"""

import asyncio
from collections.abc import Callable, Sequence

from tessera.node_agent.cgroups import Container
from tessera.node_agent.conditions import Findings
from tessera.node_agent.enforcement.port import Incident
from tessera.node_agent.enforcement.usage_file import damage_of
from tessera.node_agent.slice_containers import SliceContainers

REASON = "UsageFileUnreadable"
EVERY = 8
"""Looks: each is one at all processes of the host. What is seen for the first time is looked at again at once."""
TIMES = 2
"""In a row: one that is just being made is wrong for a moment."""


class UsageFiles:
    """``containers``: those with a shim; ``damage``: what is wrong with the file to which a process leads."""

    def __init__(self, containers: SliceContainers, damage: Callable[[int], str | None] = damage_of) -> None:
        self._containers, self._damage = containers, damage
        self._looks = 0
        self._times: dict[Container, int] = {}
        self._told: set[Container] = set()
        self._stands: tuple[Incident, ...] = ()

    async def look(self) -> Findings:
        """What stands since the last look at the processes, and what of it is new."""
        self._looks += 1
        doubt = any(times < TIMES for times in self._times.values())
        if self._looks % EVERY and not doubt:
            return Findings(self._stands)
        answers = await asyncio.to_thread(self._containers.ask, self._damage)
        wrong = {container: why for container, given in answers.items() if (why := _first(given))}
        self._times = {container: self._times.get(container, 0) + 1 for container in wrong}
        certain = [(one, self._incidents(one, why)) for one, why in wrong.items() if self._times[one] >= TIMES]
        self._stands = tuple(incident for _, found in certain for incident in found)
        new = tuple(incident for container, found in certain if container not in self._told for incident in found)
        self._told = (self._told & answers.keys()) | {container for container, found in certain if found}
        return Findings(self._stands, new)

    def _incidents(self, container: Container, why: str) -> list[Incident]:
        """One, or none where the container has no slice."""
        own = self._containers.own(container)
        if not own:
            return []
        text = (
            f"container {container.container_id[:12]}: the usage file of its slice {why}; its limits hold all the same"
        )
        text += ", but programs with the library that refuses what is over them may get no memory"
        first, *others = dict.fromkeys(share.uuid for item in own for share in item.shares)
        return [Incident(first, REASON, text, tuple(item.id for item in own), tuple(others))]


def _first(answers: Sequence[str | None]) -> str:
    """What the first process says that sees the file at all."""
    return next((answer for answer in answers if answer is not None), "")
