"""Which pod uses a standing GPULease: two writes that do not meet, whoever sends them."""

import msgspec

from tessera.kube import wire
from tessera.kube.convert import lease_client
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import GpuLease


async def use(gateway: Gateway, lease: GpuLease) -> wire.GpuLease:
    """Writes the client of ``lease``; the lease as it is then. Raises as ``Gateway.merge_patch``.

    The API server refuses it of a lease that has another client by now, or is stopped.
    """
    assert lease.client is not None
    spec = {"client": msgspec.to_builtins(lease_client(lease.client)), "attach": None}
    patch = {"metadata": {"uid": lease.uid}, "spec": spec}
    return await gateway.merge_patch(GPU_LEASES, lease.name, patch, namespace=lease.namespace)


async def part(gateway: Gateway, meta: wire.ObjectMeta) -> wire.GpuLease:
    """Takes the client off the lease that was read with ``meta``; the lease as it is then. Raises as
    ``Gateway.merge_patch``, ``conflict`` if it has changed since."""
    fence = {"uid": meta.uid, "resourceVersion": meta.resource_version}
    patch = {"metadata": fence, "spec": {"client": None, "attach": None}}
    return await gateway.merge_patch(GPU_LEASES, meta.name, patch, namespace=meta.namespace)
