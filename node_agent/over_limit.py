"""What is done about a container that uses more of a GPU than it was given. Pure; time is given.

The ladder: an event at once; after a grace the newest process of the container on that GPU is ended; if it is still
over after another grace, the whole container is. A best-effort one is ended first: it has no first grace, so where
several are over on a full GPU it makes room before the others lose anything. Only time over the limit counts, and an
episode is forgotten after ``clear_s`` under it, so that dipping below the limit in between gains nothing: who comes
back over it is charged with the time of one look, however short he was there. Time in which the GPU could not be read
is neither. Only processes that the present reading shows in a container over its limit are ever named.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process

Key = tuple[Container, str]


@dataclass(frozen=True, slots=True)
class Graces:
    """Seconds over the limit until the newest process is ended, from there until the container is, and the memory.

    ``look_s``: between two readings.
    """

    client_s: float = 0.25
    container_s: float = 0.5
    clear_s: float = 10.0
    look_s: float = 0.0


class Step(StrEnum):
    """The rungs, in order."""

    TELL = "tell"
    END_CLIENT = "end-client"
    END_CONTAINER = "end-container"


@dataclass(frozen=True, slots=True)
class Action:
    """One rung for one container on one GPU. ``process``: whom to end, or by whom the container is known."""

    step: Step
    usage: Usage
    process: Process


@dataclass(frozen=True, slots=True)
class _Episode:
    seen: float
    over_last: bool = True
    dipped: bool = False
    over_s: float = 0.0
    rung_s: float = 0.0
    under_since: float = 0.0
    ended_client: bool = False


class OverLimit:
    """Feed it every reading, in the order of time."""

    def __init__(self, graces: Graces) -> None:
        self._graces = graces
        self._episodes: dict[Key, _Episode] = {}

    @property
    def keys(self) -> frozenset[Key]:
        """Containers and GPUs with an episode that is not forgotten."""
        return frozenset(self._episodes)

    def observe(self, now: float, usages: Iterable[Usage], unread: frozenset[str] = frozenset()) -> tuple[Action, ...]:
        """What is to be done now, at most one step for a container on a GPU. ``unread``: GPUs without a reading."""
        over = {(usage.container, usage.gpu_uuid): usage for usage in usages if usage.over}
        self._rest(now, over, unread)
        return tuple(action for key, usage in over.items() if (action := self._climb(now, key, usage)))

    def _rest(self, now: float, over: dict[Key, Usage], unread: frozenset[str]) -> None:
        for key, episode in list(self._episodes.items()):
            if key in over:
                continue
            if episode.over_last or key[1] in unread:
                dipped = key[1] not in unread
                self._episodes[key] = replace(episode, over_last=False, dipped=dipped, under_since=now, seen=now)
            elif now - episode.under_since >= self._graces.clear_s:
                del self._episodes[key]

    def _climb(self, now: float, key: Key, usage: Usage) -> Action | None:
        episode = self._episodes.get(key)
        if episode is None:
            self._episodes[key] = _Episode(seen=now, ended_client=usage.best_effort)
            return Action(Step.END_CLIENT if usage.best_effort else Step.TELL, usage, newest(usage).process)
        since = self._counted(now, episode)
        episode = replace(episode, seen=now, over_last=True, over_s=episode.over_s + since)
        step = self._step(episode)
        if step is Step.END_CLIENT:
            episode = replace(episode, ended_client=True, rung_s=episode.over_s)
        elif step is Step.END_CONTAINER:
            # Said again after another grace, should the container not have gone.
            episode = replace(episode, rung_s=episode.over_s)
        self._episodes[key] = episode
        return Action(step, usage, newest(usage).process) if step else None

    def _counted(self, now: float, episode: _Episode) -> float:
        """The time between two readings, if both were over."""
        if episode.over_last:
            return now - episode.seen
        return self._graces.look_s if episode.dipped else 0.0

    def _step(self, episode: _Episode) -> Step | None:
        if not episode.ended_client:
            return Step.END_CLIENT if episode.over_s >= self._graces.client_s else None
        return Step.END_CONTAINER if episode.over_s - episode.rung_s >= self._graces.container_s else None


def newest(usage: Usage) -> Client:
    """The youngest process that is known to use memory; of two as young the higher id."""
    using = [client for client in usage.clients if client.used_bytes]
    return max(using, key=lambda client: (client.process.started, client.process.pid))
