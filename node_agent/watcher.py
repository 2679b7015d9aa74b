"""Several times a second: who uses how much of which GPU, and what is done about those over their limit."""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from tessera.node_agent.accounting import Accounts, NameOf, Usage, account
from tessera.node_agent.announce import Announcer
from tessera.node_agent.enforcement.port import Limiter
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.letting_go import let_go
from tessera.node_agent.over_limit import Action, Key, OverLimit, Step
from tessera.node_agent.probe import Probe, Snapshot
from tessera.node_agent.processes import Process, Processes
from tessera.node_agent.sightings import Sightings
from tessera.node_agent.slices import SliceStore

log = structlog.get_logger()


class Watcher:
    """``accounts``: the last reading. ``blind``: GPUs of which it did not tell all. ``ended``: how many, by step."""

    def __init__(
        self,
        probe: Probe,
        gpus: Gpus,
        store: SliceStore,
        processes: Processes,
        limiter: Limiter,
        machine: OverLimit,
        announcer: Announcer,
        name_of: NameOf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe, self._gpus, self._store, self._processes = probe, gpus, store, processes
        self._limiter, self._machine, self._announcer = limiter, machine, announcer
        self._name_of, self._clock = name_of, clock
        self._sightings = Sightings()
        self.accounts = Accounts((), ())
        self.blind: frozenset[str] = frozenset()
        self.ended = dict.fromkeys(Step, 0)

    @property
    def episodes(self) -> frozenset[Key]:
        """Containers and GPUs that went over a limit and are not forgotten."""
        return self._machine.keys

    async def tick(self) -> None:
        """One reading and what follows from it."""
        asked = tuple(self._gpus.now)
        snapshot = await self._probe.snapshot(asked)
        self._note_sight(asked, snapshot)
        self.accounts = account(snapshot.found, snapshot.processes, self._store, self._name_of)
        unread = frozenset(snapshot.failures)
        certain = self._sightings.certain(self.accounts.usages, snapshot.began, unread)
        actions = self._machine.observe(self._clock(), certain, unread)
        for action in actions:
            self._tell(action)
        await let_go(self._limiter, self._processes, [one for action in actions for one in _ending(action)])
        for action in actions:
            await asyncio.to_thread(self._end, action)

    def _note_sight(self, asked: Iterable[str], snapshot: Snapshot) -> None:
        untold = {one.gpu_uuid for one in snapshot.found if one.used_bytes is None}
        busy = {one.gpu_uuid for one in snapshot.found}
        read = {u: u in untold if u in busy else None for u in asked if u not in snapshot.failures}
        self._gpus.saw(read, snapshot.failures)
        for uuid in (untold | snapshot.failures.keys()) - self.blind:
            why = str(snapshot.failures.get(uuid, "the driver does not tell the memory of a process"))
            log.warning("the watcher does not see a GPU", gpu=uuid, why=why)
        self.blind = frozenset(untold | snapshot.failures.keys())

    def _tell(self, action: Action) -> None:
        usage, process = action.usage, action.process
        self.ended[action.step] += 1
        log.warning(
            "over limit",
            step=action.step,
            gpu=usage.gpu_uuid,
            used=usage.used_bytes,
            limit=usage.limit_bytes,
            pid=process.pid,
            pod_uid=usage.container.pod_uid,
            container_id=usage.container.container_id,
        )
        self._announcer.over_limit(self._holders(usage), action)

    def _end(self, action: Action) -> None:
        if action.step is Step.END_CLIENT:
            self._processes.end(action.process)
        elif action.step is Step.END_CONTAINER:
            # The container is known by a process; one that has just ended leads nowhere, another does.
            any(map(self._processes.end_container, (action.process, *(one.process for one in action.usage.clients))))

    def _holders(self, usage: Usage) -> list[tuple[str, str, str, str]]:
        """Namespace, pod, UID and container of the slices that ``usage`` is held against."""
        return [
            (item.namespace, item.pod, item.pod_uid, item.container)
            for item in self._store
            if item.pod_uid == usage.container.pod_uid and (item.id in usage.slices or not usage.slices)
        ]


def _ending(action: Action) -> tuple[tuple[str, Process], ...]:
    """The clients that end with an action, by GPU."""
    if action.step is Step.END_CLIENT:
        return ((action.usage.gpu_uuid, action.process),)
    if action.step is Step.END_CONTAINER:
        return tuple((action.usage.gpu_uuid, client.process) for client in action.usage.clients)
    return ()
