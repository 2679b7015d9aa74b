"""What ``kubectl tessera`` reads of GPULeases, and how it asks for the end of one, with the user's credentials."""

from dataclasses import replace

from tessera.cli.kubectl_reading import Access
from tessera.dashboard.cluster import lease_state_of
from tessera.dashboard.states import LeaseState
from tessera.kube.connection import connect
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_end
from tessera.kube.resources import GPU_LEASES


async def leases(access: Access, namespace: str) -> list[LeaseState]:
    """Those of ``namespace`` (empty: all), in order of their names."""
    async with Gateway(connect(access.settings())) as gateway:
        try:
            found = await gateway.list(GPU_LEASES, namespace=namespace)
        except ApiError as error:
            if error.not_found:
                message = "the cluster has no GPULeases: this version of Tessera is not installed there"
                raise ApiError(error.status, error.reason, message) from error
            raise
    return sorted(map(lease_state_of, found), key=lambda each: each.key)


async def lease(access: Access, namespace: str, name: str) -> LeaseState:
    """One lease. Raises ``ApiError`` if there is none of that name."""
    async with Gateway(connect(access.settings())) as gateway:
        return lease_state_of(await gateway.get(GPU_LEASES, name, namespace=namespace))


async def delete(access: Access, namespace: str, name: str) -> LeaseState:
    """Asks for the end of the lease that there is of that name now; the pool then ends its executor."""
    async with Gateway(connect(access.settings())) as gateway:
        found = await gateway.get(GPU_LEASES, name, namespace=namespace)
        await ask_end(gateway, found)
    return replace(lease_state_of(found), ending=True)
