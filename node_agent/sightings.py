"""What of a reading is certain. Pure; it is fed every reading in turn.

The driver names a process by its id alone, and tells of one for a moment after its end. By the time the agent looks
whose the id is, it may be another's: then somebody is charged with what he never had. So a process counts with what two
readings in a row told of the same one, named by id, start and container, that was there before they began. A container
that hands its memory from one process to the next, faster than that, counts as a whole once it has been over its limit
for ``READINGS`` in a row.
"""

from collections.abc import Iterable
from dataclasses import replace

from tessera.node_agent.accounting import Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process

READINGS = 4


class Sightings:
    """The last reading of each GPU."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Process, str], int] = {}
        self._over: dict[tuple[Container, str], int] = {}

    def certain(self, usages: Iterable[Usage], began: int, unread: frozenset[str] = frozenset()) -> tuple[Usage, ...]:
        """What is certain of the usages of a reading that ``began`` then, in the ticks of processes' starts.

        ``unread``: GPUs without a reading, of which nothing is forgotten.
        """
        found = tuple(usages)
        before = self._seen
        kept = {key: used for key, used in before.items() if key[1] in unread}
        known = ((c, u.gpu_uuid) for u in found for c in u.clients if c.process.started < began)
        self._seen = kept | {(client.process, uuid): client.used_bytes or 0 for client, uuid in known}
        over = {(usage.container, usage.gpu_uuid) for usage in found if usage.over}
        waiting = {key: count for key, count in self._over.items() if key[1] in unread}
        self._over = waiting | {key: self._over.get(key, 0) + 1 for key in over}
        return tuple(self._judged(usage, before) for usage in found)

    def _judged(self, usage: Usage, before: dict[tuple[Process, str], int]) -> Usage:
        if self._over.get((usage.container, usage.gpu_uuid), 0) >= READINGS:
            return usage
        clients = tuple(
            replace(client, used_bytes=min(client.used_bytes, before.get((client.process, usage.gpu_uuid), 0)))
            if client.used_bytes is not None
            else client
            for client in usage.clients
        )
        return replace(usage, used_bytes=sum(client.used_bytes or 0 for client in clients), clients=clients)
