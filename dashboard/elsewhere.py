"""Slices on other nodes than their pods': GPULeases, joined with the pods that they are for and those that serve them.

Pure. As in the scheduler's ledger a slice counts once: by its executor while one holds it, else by its lease.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tessera.dashboard.facts import Cause
from tessera.dashboard.holdings import Holding
from tessera.dashboard.states import LeaseState, PodShare, Tenant
from tessera.model.gpu_leases import Phase

NO_LEASE = "NoLease"
WORDS: Mapping[str, str] = {
    Phase.RESERVED: "its room is kept, and no executor serves yet",
    Phase.READY: "an executor serves, and the container may start",
    Phase.ACTIVE: "the container uses it",
    Phase.DETACHED: "an executor serves, and no container uses it",
    Phase.MIGRATING: "the session moves to another executor",
    Phase.LOST: "the executor is gone, and with it the session; another is made",
    Phase.RELEASED: "nobody needs it any more; it goes with its executor",
}
"""Each phase as a clause."""
_SERVING = frozenset({Phase.READY, Phase.ACTIVE})


def joined(
    holdings: Iterable[Holding], leases: Mapping[str, LeaseState] | None
) -> tuple[list[Holding], list[LeaseState]]:
    """The holdings with what their leases say, and the leases whose slices no executor holds.

    ``leases`` by NAMESPACE/NAME; ``None`` where they are not known: then nothing is said of them.
    """
    if leases is None:
        return list(holdings), []
    found, served = list[Holding](), set[str]()
    for holding in holdings:
        lease = leases.get(holding.state.serves)
        if lease is not None and lease.uid == holding.serves_uid:
            found.append(_executor(holding, lease))
            if _holds(holding, lease):
                served.add(lease.key)
        else:
            found.append(_client(holding, leases) if holding.leases else holding)
    return found, [lease for lease in leases.values() if lease.key not in served]


def tenant_of(lease: LeaseState, executor: str = "") -> Tenant:
    """Whose the slice of ``lease`` is."""
    return Tenant(
        lease.namespace, lease.pod, lease.container, lease.mem_bytes, lease.core_percent, False, lease.key, executor
    )


def why(lease: LeaseState) -> Cause:
    """Why the slice of ``lease`` cannot be used; empty where it can."""
    if lease.phase in _SERVING and not lease.ending:
        return Cause()
    phase = Phase.RELEASED if lease.ending else lease.phase
    return Cause(f"Lease{phase}", f"GPULease {lease.key}: {lease.message or WORDS.get(phase, 'not known')}")


def _executor(holding: Holding, lease: LeaseState) -> Holding:
    state = holding.state
    shares = (
        (uuid, replace(tenant_of(lease, state.key), mem_bytes=t.mem_bytes, core_percent=t.core_percent, whole=t.whole))
        for uuid, t in holding.tenants
    )
    return replace(holding, state=replace(state, client=f"{lease.namespace}/{lease.pod}"), tenants=tuple(shares))


def _holds(holding: Holding, lease: LeaseState) -> bool:
    """Whether that executor holds the very slice."""
    kept = (lease.node, lease.uuid, lease.mem_bytes, lease.core_percent, False)
    return any((holding.state.node, uuid, t.mem_bytes, t.core_percent, t.whole) == kept for uuid, t in holding.tenants)


def _client(holding: Holding, leases: Mapping[str, LeaseState]) -> Holding:
    """A pod whose slices are elsewhere, with what it has of them; what they lack is its own cause."""
    state, mine, causes = holding.state, list[LeaseState](), list[Cause]()
    for container, name in holding.leases:
        lease = leases.get(f"{state.namespace}/{name}")
        if lease is None or lease.pod_uid != state.uid:
            text = f"GPULease {state.namespace}/{name} of container {container} is gone, and is not made again"
            causes.append(Cause(NO_LEASE, text))
            continue
        mine.append(lease)
        causes.append(why(lease))
    cause = next(filter(None, causes), Cause(state.reason, state.message))
    gpus = tuple(PodShare(x.uuid, x.mem_bytes, x.core_percent, False, x.key, x.node) for x in mine)
    return replace(holding, state=replace(state, gpus=gpus, reason=cause.reason, message=cause.message))
