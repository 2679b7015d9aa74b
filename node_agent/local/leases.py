"""Leases: slices of this machine's GPUs for commands that no kubelet started.

A lease is a slice like any other, of the namespace ``NAMESPACE``, with a home for its processes. It ends when the
client hangs up, however that came about: what still lives in the home is killed, and when nothing does the slice is
released. The slice and its client are on record before the lease is given, so that the agent that comes after a crash
ends a lease whose client has ended. The client is recorded second and forgotten with the slice: where only the slice is
on record, nothing was started in it or nothing is left.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tessera.model import names
from tessera.model.demands import PodDemand, demand_of
from tessera.model.pods import ContainerSpec, Pod
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.port import Edits
from tessera.node_agent.gpus import Gpus
from tessera.node_agent.local.choice import choose
from tessera.node_agent.local.clients import Client, Clients
from tessera.node_agent.local.homes import Home
from tessera.node_agent.local.marks import home_of
from tessera.node_agent.preparation import Preparation
from tessera.node_agent.slices import Refusal, Slice, SliceStore
from tessera.reasons import Code, Reason, invalid

log = structlog.get_logger()

NAMESPACE = "local"
FIELD = "command"
"""Of what a refusal names, as ``spec.containers[main]`` is of a pod."""
TRIES = 3
KILL_EVERY_S, KILL_FOR_S = 0.02, 10.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A slice, and what its command needs."""

    slice: Slice
    edits: Edits


def container_of(item: Slice) -> Container:
    """The home of a lease; the same after a restart of the agent."""
    return Container(item.pod_uid, home_of(item.id))


class Leases:
    """``new_id`` makes an id that was never used before. ``context_bytes``: as ``demand_of`` has it."""

    def __init__(
        self,
        preparation: Preparation,
        store: SliceStore,
        gpus: Gpus,
        homes: Home,
        new_id: Callable[[], str] = lambda: f"run-{secrets.token_hex(8)}",
        context_bytes: int = 0,
    ) -> None:
        self._context_bytes = context_bytes
        self._preparation, self._store, self._gpus, self._homes, self._new_id = preparation, store, gpus, homes, new_id
        self._clients = Clients(store.folder)
        self._held: set[str] = set()
        self._ended: set[str] = set()
        self._released = asyncio.Event()

    async def take(self, limits: dict[str, str], annotations: dict[str, str], uid: int, client: int) -> Lease | Reason:
        """A slice of the GPUs here for the process ``client`` of ``uid``."""
        demand = _demand(limits, annotations, self._context_bytes)
        if isinstance(demand, Reason):
            return demand
        try:
            asking = await asyncio.to_thread(self._clients.look, client)
        except OSError as error:
            return Reason(Code.INVALID_REQUEST, f"process {client}, cannot be looked at: {error}")
        if asking is None:
            return Reason(Code.INVALID_REQUEST, f"process {client}, which asks for a lease, has ended")
        return await self._take(demand, uid, asking)

    async def join(self, id_: str, uid: int, pid: int) -> Reason | None:
        """Takes a process of the same user into a lease, also of one that an agent before gave.

        While ``end`` looks into the home somebody may still be let in: the sweep goes on where ``end`` missed him.
        """
        item = self._store.get(id_)
        own = item is not None and (item.namespace, item.pod) == (NAMESPACE, _holder(uid))
        try:
            if item is None or not own or not await self._is_open(id_):
                return invalid("lease", id_, "a lease of the same user that has not ended")
            await asyncio.to_thread(self._homes.join, container_of(item), pid)
        except OSError as error:
            return Reason(Code.INVALID_REQUEST, f"process {pid} cannot join the lease {id_}: {error}")
        return None

    async def _is_open(self, id_: str) -> bool:
        """Whether the client holds it: by its connection, or as the process that is on record."""
        if id_ in self._ended:
            return False
        if id_ in self._held:
            return True
        client = await asyncio.to_thread(self._clients.get, id_)
        return client is not None and await asyncio.to_thread(self._clients.lives, client)

    async def end(self, id_: str) -> None:
        """Kills what is left of a lease and releases it; what will not die keeps it, and the sweep goes on."""
        item = self._store.get(id_)
        if item is None:
            self._held.discard(id_)
            return
        self._ended.add(id_)
        try:
            await self._end(item)
        finally:
            self._held.discard(id_)  # not before: the sweep would be in the way

    async def all_ended(self) -> None:
        """Returns when nothing is leased."""
        while any(item.namespace == NAMESPACE for item in self._store):
            self._released.clear()
            await self._released.wait()

    async def sweep(self) -> None:
        """Looks after leases that no connection holds: of an agent that was there before, and those that would not end.

        A round does not wait for what it kills; the next one finds the home empty and releases the lease.
        """
        for item in self._store:
            if item.namespace != NAMESPACE or item.id in self._held:
                continue
            try:
                await self._look_after(item)
            except OSError as error:
                log.error("lease not looked after; it is tried again", lease=item.id, error=str(error))

    async def _look_after(self, item: Slice) -> None:
        home, client = container_of(item), await asyncio.to_thread(self._clients.get, item.id)
        await asyncio.to_thread(self._homes.make, home, client)
        if await self._is_open(item.id):
            return
        if await asyncio.to_thread(self._homes.empty, home):
            await self._release(item)
        elif client or item.id in self._ended:
            await asyncio.to_thread(self._homes.kill, home)

    async def _end(self, item: Slice) -> None:
        home, deadline = container_of(item), asyncio.get_running_loop().time() + KILL_FOR_S
        while not await asyncio.to_thread(self._homes.empty, home):
            await asyncio.to_thread(self._homes.kill, home)
            if asyncio.get_running_loop().time() > deadline:
                log.error("processes of a lease do not end; it is kept", lease=item.id)
                return
            await asyncio.sleep(KILL_EVERY_S)
        await self._release(item)

    async def _take(self, demand: PodDemand, uid: int, client: Client) -> Lease | Reason:
        """Somebody may be faster between choice and preparation: then another GPU is looked for."""
        refused = Reason(Code.NOT_SYNCED, "the GPUs have not been looked at yet")
        for _ in range(TRIES):
            (own,) = demand.containers
            shares = choose(self._gpus.now.values(), self._store, own, demand.preferences, demand.min_level)
            if isinstance(shares, Reason):
                return shares
            wanted = demand.preferences
            item = Slice(
                self._new_id(), str(uuid.uuid4()), NAMESPACE, _holder(uid), FIELD, shares, demand.min_level,
                wanted.qos.value, wanted.core_limit_percent,
            )  # fmt: skip
            found = await self._prepare(item, client)
            if isinstance(found, Lease):
                return found
            refused = found.reason
            if found.permanent:
                break
        return refused

    async def _prepare(self, item: Slice, client: Client) -> Lease | Refusal:
        self._held.add(item.id)  # before it is on record: the sweep may not take it
        edits = await self._preparation.prepare(item)
        if isinstance(edits, Refusal):
            self._held.discard(item.id)
            return edits
        try:
            await asyncio.to_thread(self._clients.put, item.id, client)
            await asyncio.to_thread(self._homes.make, container_of(item), client)
        except OSError as error:
            await self.end(item.id)
            return Refusal(Reason(Code.ENFORCEMENT_TOO_WEAK, f"lease {item.id}: no home for its processes: {error}"))
        return Lease(item, edits)

    async def _release(self, item: Slice) -> None:
        try:
            await asyncio.to_thread(self._homes.remove, container_of(item))
            await self._preparation.release(item.id)
            self._ended.discard(item.id)
            self._released.set()
        except OSError as error:
            log.error("lease not released; it is tried again", lease=item.id, error=str(error))


def _holder(uid: int) -> str:
    """Whose a lease is, in the place of a pod's name."""
    return f"uid-{uid}"


def _demand(limits: dict[str, str], annotations: dict[str, str], context_bytes: int) -> PodDemand | Reason:
    spec = ContainerSpec(FIELD, FIELD, limits={**limits, names.SLICE: "1"})
    found = demand_of(Pod(NAMESPACE, FIELD, "", (spec,), annotations), context_bytes)
    return found or invalid(f"{FIELD}.resources.limits", limits, "tessera.io/gpu-mem, gpu-core or gpu")
