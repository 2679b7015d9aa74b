"""Slices on other nodes than their pods': GPULeases, joined with the pods that they are for and those that serve them.
A standing one may be for no pod.

Pure. As in the scheduler's ledger a slice counts once: by its executor while one holds it, else by its lease. A lease
that moves has two, each counted so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tessera.dashboard.facts import Cause
from tessera.dashboard.holdings import Holding
from tessera.dashboard.states import LeaseRoom, LeaseState, PodShare, Tenant
from tessera.model.gpu_leases import SERVING, Phase

NO_LEASE = "NoLease"
_WORDS: Mapping[str, str] = {
    Phase.PENDING: "no room has been found for it yet",
    Phase.RESERVED: "its room is kept, and no executor serves yet",
    Phase.READY: "an executor serves, and the container may start",
    Phase.ACTIVE: "the container uses it",
    Phase.DETACHED: "an executor serves, and no pod uses it",
    Phase.MIGRATING: "its sessions are carried over to another executor, and go on there",
    Phase.LOST: "the executor is gone, and with it the session; another is made",
    Phase.RELEASED: "nobody needs it any more; it goes with its executor",
    Phase.STOPPED: "its users have stopped it; it has no room",
}
"""Each phase as a clause."""


def joined(
    holdings: Iterable[Holding], leases: Mapping[str, LeaseState] | None
) -> tuple[list[Holding], list[tuple[LeaseState, LeaseRoom]]]:
    """The holdings with what their leases say, and what leases keep that no executor holds.

    ``leases`` by NAMESPACE/NAME; ``None`` where they are not known: then nothing is said of them.
    """
    if leases is None:
        return list(holdings), []
    found, served = list[Holding](), set[tuple[str, LeaseRoom]]()
    for holding in holdings:
        lease = leases.get(holding.state.serves)
        if lease is not None and lease.uid == holding.serves_uid:
            found.append(_executor(holding, lease))
            served |= {(lease.key, room) for room in lease.rooms if _holds(holding, room)}
        else:
            found.append(_client(holding, leases) if holding.leases else holding)
    kept = [(lease, room) for lease in leases.values() for room in lease.rooms if (lease.key, room) not in served]
    return found, kept


def tenant_of(lease: LeaseState, room: LeaseRoom, executor: str = "") -> Tenant:
    """Whose a slice of ``lease`` is."""
    return Tenant(
        lease.namespace, lease.pod, lease.container, room.mem_bytes, room.core_percent, False, lease.key, executor
    )


def why(lease: LeaseState) -> Cause:
    """Why the slice of ``lease`` cannot be used; empty where it can."""
    if lease.phase in SERVING and not lease.ending:
        return Cause()
    phase = Phase.RELEASED if lease.ending else lease.phase
    return Cause(f"Lease{phase}", f"GPULease {lease.key}: {lease.message or words_of(lease)}")


def words_of(lease: LeaseState) -> str:
    """How far ``lease`` has come, as a clause."""
    if lease.ending:
        return "its deletion was asked for; it goes with its executor"
    if lease.rooms and lease.stopped:
        return "its users have stopped it; its room is given back once its executor is gone"
    if lease.rooms and lease.phase in (Phase.PENDING, Phase.STOPPED):
        return _WORDS[Phase.RESERVED]
    return _WORDS.get(lease.phase, "not known")


def _executor(holding: Holding, lease: LeaseState) -> Holding:
    state = holding.state
    rooms = [(LeaseRoom(state.node, uuid, t.mem_bytes, t.core_percent), t.whole) for uuid, t in holding.tenants]
    shares = ((room.uuid, replace(tenant_of(lease, room, state.key), whole=whole)) for room, whole in rooms)
    client = f"{lease.namespace}/{lease.pod}" if lease.pod else ""
    return replace(holding, state=replace(state, client=client), tenants=tuple(shares))


def _holds(holding: Holding, room: LeaseRoom) -> bool:
    """Whether that executor holds the very slice."""
    node = holding.state.node
    return any(LeaseRoom(node, uuid, t.mem_bytes, t.core_percent) == room for uuid, t in holding.tenants if not t.whole)


def _client(holding: Holding, leases: Mapping[str, LeaseState]) -> Holding:
    """A pod whose slices are elsewhere, with what it has of them; what they lack is its own cause."""
    state, mine, causes = holding.state, list[LeaseState](), list[Cause]()
    for container, name in holding.leases:
        lease = leases.get(f"{state.namespace}/{name}")
        if lease is None or lease.pod_uid != state.uid:
            text = f"GPULease {state.namespace}/{name} of container {container} {_parted(lease)}"
            causes.append(Cause(NO_LEASE, text))
            continue
        mine.append(lease)
        causes.append(why(lease))
    cause = next(filter(None, causes), Cause(state.reason, state.message))
    gpus = tuple(PodShare(x.uuid, x.mem_bytes, x.core_percent, False, x.key, x.node) for x in mine)
    return replace(holding, state=replace(state, gpus=gpus, reason=cause.reason, message=cause.message))


def _parted(lease: LeaseState | None) -> str:
    """What has become of the lease of that name that a pod had."""
    if lease is not None and lease.standing:
        return "was taken off this pod, and does not come back to it"
    return "is gone, and is not made again"
