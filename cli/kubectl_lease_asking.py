"""How ``kubectl tessera lease`` asks something of GPULeases, with the user's credentials, and waits for it.

``wait_s``: seconds to wait at most for what was asked; 0 does not wait. All raise ``KubeError``.
"""

from collections.abc import Awaitable, Callable

from tessera.cli.kubectl_lease_waiting import wait_for, wait_of
from tessera.cli.kubectl_reading import Access
from tessera.cli.printing import tell
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.states import LeaseState
from tessera.kube import wire
from tessera.kube.connection import connect
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_new, ask_no_user, ask_size, ask_stopped, ask_user, find_lease
from tessera.kube.resources import GPU_LEASES
from tessera.model.new_leases import NewLease
from tessera.model.resizes import Resize
from tessera.reasons import Reason

Outcome = tuple[LeaseState, bool] | Reason
"""The lease, and whether it has what was asked of it; or why that was not asked."""
_Ask = Callable[[Gateway], Awaitable[wire.GpuLease | Reason]]


async def create(access: Access, namespace: str, name: str, new: NewLease, wait_s: float) -> Outcome:
    """Makes a standing lease."""

    async def ask(gateway: Gateway) -> wire.GpuLease:
        return await ask_new(gateway, namespace, name, new.size, new.annotations)

    return await _asked(access, ask, wait_s)


async def resize(access: Access, namespace: str, name: str, size: Resize, wait_s: float) -> Outcome:
    """Asks for another size of the lease of that name, or of the pod of that name."""

    async def ask(gateway: Gateway) -> wire.GpuLease | Reason:
        found = await find_lease(gateway, namespace, name)
        return found if isinstance(found, Reason) else await ask_size(gateway, found, size)

    return await _asked(access, ask, wait_s)


async def switch(access: Access, namespace: str, name: str, wait_s: float, *, stopped: bool) -> Outcome:
    """Asks that a standing lease give its room back, or have room again."""

    async def ask(gateway: Gateway) -> wire.GpuLease | Reason:
        found = await gateway.get(GPU_LEASES, name, namespace=namespace)
        return await ask_stopped(gateway, found, stopped=stopped)

    return await _asked(access, ask, wait_s)


async def attach(access: Access, namespace: str, name: str, pod: str) -> LeaseState | Reason:
    """Tells a pod to use a standing lease; the lease as it was before."""
    async with Gateway(connect(access.settings())) as gateway:
        found = await gateway.get(GPU_LEASES, name, namespace=namespace)
        told = await ask_user(gateway, found, pod)
    return told if isinstance(told, Reason) else lease_state_of(found)


async def detach(access: Access, namespace: str, name: str) -> tuple[LeaseState, LeaseState] | Reason:
    """Takes the pod off a standing lease; the lease as it was before, and as it is then."""
    async with Gateway(connect(access.settings())) as gateway:
        found = await gateway.get(GPU_LEASES, name, namespace=namespace)
        left = await ask_no_user(gateway, found)
    return left if isinstance(left, Reason) else (lease_state_of(found), lease_state_of(left))


async def _asked(access: Access, ask: _Ask, wait_s: float) -> Outcome:
    async with Gateway(connect(access.settings())) as gateway:
        written = await ask(gateway)
        if isinstance(written, Reason):
            return written
        state = lease_state_of(written)
        return await wait_for(gateway, state, wait_s, tell) if wait_s else (state, not wait_of(state))
