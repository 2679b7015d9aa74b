"""What ``kubectl tessera`` reads from the API server, with the user's credentials. Lists only; nothing is followed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.dashboard.cluster import facts_of, lease_state_of, newest_no_room, with_no_room
from tessera.dashboard.holdings import Holding, holding_of
from tessera.dashboard.snapshot import build
from tessera.dashboard.states import GpuState, LeaseState, PodState, Snapshot
from tessera.kube import wire
from tessera.kube.connection import connect
from tessera.kube.convert import told_gpu_node_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import EVENTS, GPU_LEASES, GPU_NODES, PODS
from tessera.settings import KubeSettings


@dataclass(frozen=True, slots=True)
class Access:
    """The options that say which API server; empty ones are left to the environment."""

    kubeconfig: str = ""
    context: str = ""
    server: str = ""

    def settings(self) -> KubeSettings:
        """A kubeconfig or context that is named wins over a server that the environment names."""
        given = {"kubeconfig": self.kubeconfig, "context": self.context, "server": self.server}
        kept = {name: value for name, value in given.items() if value}
        if kept and not self.server:
            kept["server"] = ""
        return KubeSettings(**kept)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One container's share of one GPU, seen from the pool; ``lease`` and ``executor`` as of a ``Tenant``."""

    namespace: str
    pod: str
    container: str
    node: str
    uuid: str
    mem_bytes: int
    core_percent: int
    whole: bool
    lease: str = ""
    executor: str = ""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One thing that was said about a pod."""

    when: str
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Story:
    """One pod, the GPUs it holds parts of, and what was said about it, oldest first.

    ``leases``: those by which its slices are on other nodes, or the one that it serves, as far as they can be read.
    """

    pod: PodState
    gpus: tuple[GpuState, ...]
    events: tuple[EventRow, ...]
    leases: tuple[LeaseState, ...] = ()


async def pool(access: Access) -> Snapshot:
    """The whole pool; the user must be allowed to list GPUNodes, and pods in all namespaces."""
    return await pods(access, "")


async def pods(access: Access, namespace: str) -> Snapshot:
    """The pods of ``namespace`` (empty: all) and all GPUs that the user may see."""
    async with Gateway(connect(access.settings())) as gateway:
        nodes, found, events, leases = await asyncio.gather(
            _nodes(gateway, needed=not namespace),
            gateway.list(PODS, namespace=namespace),
            _no_room(gateway, namespace),
            _leases(gateway, namespace),
        )
    return build([told_gpu_node_of(n) for n in nodes], _holdings(found, newest_no_room(events)), leases)


async def explain(access: Access, namespace: str, name: str) -> Story | None:
    """One pod's story; ``None`` if slices do not concern it. Raises ``ApiError`` if there is no such pod."""
    async with Gateway(connect(access.settings())) as gateway:
        pod = await gateway.get(PODS, name, namespace=namespace)
        selector = f"involvedObject.name={name},involvedObject.kind=Pod"
        events = await gateway.list(EVENTS, namespace=namespace, field_selector=selector)
        mine = sorted((e for e in events if e.involved_object.uid in ("", pod.metadata.uid)), key=_when)
        held = _holdings([pod], newest_no_room(mine))
        if not held:
            return None
        leases = await _leases_of(gateway, held[0].state)
        places = {pod.spec.node_name, *(lease.node for lease in leases or () if lease.node)}
        nodes = [node for name in sorted(places) for node in await _node(gateway, name)]
    snapshot = build([told_gpu_node_of(n) for n in nodes], held, leases)
    state = snapshot.pods[held[0].state.key]
    gpus = tuple(snapshot.gpus[share.uuid] for share in state.gpus)
    said = tuple(EventRow(_when(e), e.type, e.reason, e.message) for e in mine)
    return Story(state, gpus, said, tuple(leases or ()))


def tenants(snapshot: Snapshot) -> list[TenantRow]:
    """Every share of every GPU, largest first."""
    rows = [
        TenantRow(
            t.namespace, t.pod, t.container, g.node, g.uuid, t.mem_bytes, t.core_percent, t.whole, t.lease, t.executor
        )
        for g in snapshot.gpus.values()
        for t in g.tenants
    ]
    return sorted(rows, key=lambda r: (-r.mem_bytes, r.namespace, r.pod))


async def _nodes(gateway: Gateway, *, needed: bool) -> Sequence[wire.GpuNode]:
    """All GPUNodes. For a look at some namespace's pods they only add names, so they may be forbidden."""
    try:
        return await gateway.list(GPU_NODES)
    except ApiError as error:
        if error.forbidden and not needed:
            return ()
        if error.not_found:
            message = "the cluster has no GPUNodes: Tessera is not installed there"
            raise ApiError(error.status, error.reason, message) from error
        raise


async def _node(gateway: Gateway, name: str) -> Sequence[wire.GpuNode]:
    """The GPUNode of that name, if there is one and the user may see it."""
    try:
        return [await gateway.get(GPU_NODES, name)] if name else []
    except ApiError as error:
        if error.not_found or error.forbidden:
            return []
        raise


async def _leases(gateway: Gateway, namespace: str) -> list[LeaseState] | None:
    """The GPULeases; ``None`` where they cannot be read, which is not the same as none."""
    try:
        return [lease_state_of(found) for found in await gateway.list(GPU_LEASES, namespace=namespace)]
    except ApiError as error:
        if error.forbidden or error.not_found:
            return None
        raise


async def _leases_of(gateway: Gateway, pod: PodState) -> list[LeaseState] | None:
    """The GPULeases that a pod has, or serves; ``None`` where they cannot be read."""
    found = []
    for key in (*pod.leases, *filter(None, [pod.serves])):
        namespace, _, name = key.partition("/")
        try:
            found.append(lease_state_of(await gateway.get(GPU_LEASES, name, namespace=namespace)))
        except ApiError as error:
            if error.forbidden:
                return None
            if not error.not_found:
                raise
    return found


async def _no_room(gateway: Gateway, namespace: str) -> list[wire.Event]:
    """The ``NoRoom`` events; without the right to read them the pods' own conditions have to do."""
    try:
        return await gateway.list(EVENTS, namespace=namespace, field_selector="reason=NoRoom")
    except ApiError as error:
        if error.forbidden:
            return []
        raise


def _holdings(pods: Sequence[wire.Pod], no_room: dict[str, str]) -> list[Holding]:
    read = (holding_of(with_no_room(facts_of(p), no_room.get(p.metadata.uid, ""))) for p in pods)
    return [holding for holding in read if holding is not None]


def _when(event: wire.Event) -> str:
    return event.last_timestamp or event.first_timestamp or event.metadata.creation_timestamp or ""
