"""How far a lease has come on its way to what was asked of it, and the wait for it.

Asked is a size, in a room that is served, or that it be stopped.
"""

import asyncio
from collections.abc import Callable

from tessera.cli.kubectl_tables import size
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.elsewhere import words_of
from tessera.dashboard.states import LeaseState
from tessera.kube.errors import ApiError, KubeError, Unreachable
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import SERVING, Phase

LOOK_S = 1.0


class Overtaken(KubeError):
    """What is waited for will not come: the lease ends, or something else was asked of it by now."""


def wait_of(lease: LeaseState) -> str:
    """What the size that is wanted still waits for; empty once the lease has it and serves. Of a stopped lease, what
    it has to give back yet."""
    if lease.stopped:
        given_back = lease.phase == Phase.STOPPED and not lease.rooms
        return "" if given_back else "its room is given back once its executor is gone"
    reached = lease.asked is None
    if reached and lease.phase in SERVING and not lease.next:
        return ""
    said = f" ({lease.message})" if lease.message else ""
    if lease.next and lease.target:
        return f"its sessions are carried over to executor {lease.next} on {lease.target.node}{said}"
    if lease.target:
        room = lease.target
        return f"{size(room.mem_bytes)} of {room.uuid} on {room.node} are kept, and an executor is made there{said}"
    if not reached:
        return lease.unmoved or "room for it is looked for"
    return f"it has its size and is {lease.phase}: {lease.message or words_of(lease)}"


async def wait_for(
    gateway: Gateway, asked: LeaseState, timeout_s: float, tell: Callable[[str], None]
) -> tuple[LeaseState, bool]:
    """Waits until ``asked`` has what is asked of it (``wait_of``); the last that was seen, and whether it has.

    Each new cause of the wait is told. A server that does not answer for a while is waited for as well. Raises
    ``ApiError``, ``Overtaken``.
    """
    seen, told, ends = asked, "", asyncio.get_running_loop().time() + timeout_s
    while True:
        waits = wait_of(seen)
        if not waits:
            return seen, True
        if waits != told:
            tell(f"GPULease {seen.key} waits: {waits}")
            told = waits
        left_s = ends - asyncio.get_running_loop().time()
        if left_s <= 0:
            return seen, False
        await asyncio.sleep(min(LOOK_S, left_s))
        seen = await _look(gateway, seen, asked)


async def _look(gateway: Gateway, last: LeaseState, asked: LeaseState) -> LeaseState:
    """As it is now, or ``last`` where the server does not say."""
    try:
        found = await gateway.find(GPU_LEASES, last.name, namespace=last.namespace)
    except Unreachable:
        return last
    except ApiError as error:
        if error.temporary:
            return last
        raise
    if found is None or found.metadata.uid != last.uid or found.metadata.deletion_timestamp is not None:
        raise Overtaken(f"GPULease {last.key} was ended while it was waited for")
    seen = lease_state_of(found)
    if seen.stopped != asked.stopped:
        raise Overtaken(f"GPULease {last.key} was {'stopped' if seen.stopped else 'started'} while it was waited for")
    if seen.wanted != asked.wanted and not seen.stopped:
        raise Overtaken(f"GPULease {last.key} was asked for another size while this one was waited for")
    return seen
