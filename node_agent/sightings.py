"""What of a reading is certain. Pure; it is fed every reading in turn.

The driver names a process by its id alone, and tells of one for a moment after its end. By the time the agent looks
whose the id is, it may be another's: then somebody is charged with what he never had. So a process counts with what two
readings told of the same one, named by id, start and container, that was there before they began. A container that
hands its memory from one process to the next, faster than that, counts as a whole once ``READINGS`` more were over its
limit than were not.

The two need not be in a row: else who goes below his limit for every second look is never certain. What was told before
is forgotten ``FORGOTTEN`` readings after the last that was over the container's limit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tessera.node_agent.accounting import Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process

READINGS = 4
FORGOTTEN = 40

Told = dict[tuple[Process, str], int]


@dataclass(frozen=True, slots=True)
class _Overrun:
    """Of one container on one GPU: the readings over its limit less those that were not, and those since the last."""

    readings: int = 0
    since: int = 0

    def over(self) -> "_Overrun":
        return _Overrun(min(self.readings + 1, READINGS))

    def under(self) -> "_Overrun":
        return _Overrun(max(self.readings - 1, 0), self.since + 1)


_NONE = _Overrun()


class Sightings:
    """What was told of each process: the most since its container went over its limit, or else the last."""

    def __init__(self) -> None:
        self._told: Told = {}
        self._overruns: dict[tuple[Container | None, str], _Overrun] = {}

    def certain(self, usages: Iterable[Usage], began: int, unread: frozenset[str] = frozenset()) -> tuple[Usage, ...]:
        """What is certain of the usages of a reading that ``began`` then, in the ticks of processes' starts.

        ``unread``: GPUs without a reading, of which nothing is forgotten.
        """
        found, before = tuple(usages), self._told
        self._note_overruns(found, unread)
        kept = {key: used for key, used in before.items() if self._is_kept(key, unread)}
        known = ((c, u.gpu_uuid) for u in found for c in u.clients if c.process.started < began)
        told = {(client.process, uuid): client.used_bytes or 0 for client, uuid in known}
        self._told = kept | {key: max(used, kept.get(key, 0)) for key, used in told.items()}
        return tuple(self._judged(usage, before) for usage in found)

    def _note_overruns(self, found: Iterable[Usage], unread: frozenset[str]) -> None:
        over = {(usage.container, usage.gpu_uuid) for usage in found if usage.over}
        rest = {key: one if key[1] in unread else one.under() for key, one in self._overruns.items() if key not in over}
        self._overruns = {key: self._overruns.get(key, _NONE).over() for key in over}
        self._overruns |= {key: one for key, one in rest.items() if one.since < FORGOTTEN}

    def _is_kept(self, key: tuple[Process, str], unread: frozenset[str]) -> bool:
        """Also of a process that the reading does not show: who gives up his context on the way down is not another."""
        return key[1] in unread or (key[0].container, key[1]) in self._overruns

    def _judged(self, usage: Usage, before: Told) -> Usage:
        if self._overruns.get((usage.container, usage.gpu_uuid), _NONE).readings >= READINGS:
            return usage
        clients = tuple(
            replace(client, used_bytes=min(client.used_bytes, before.get((client.process, usage.gpu_uuid), 0)))
            if client.used_bytes is not None
            else client
            for client in usage.clients
        )
        return replace(usage, used_bytes=sum(client.used_bytes or 0 for client in clients), clients=clients)
