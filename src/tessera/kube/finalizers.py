"""Takes the pool's finalizer off a GPULease, so that the API server lets it go."""

from tessera.kube import wire
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.names import LEASE_FINALIZER


async def let_go(gateway: Gateway, lease: wire.GpuLease) -> None:
    """``lease`` as it was just read. Raises as ``Gateway.merge_patch`` does, ``conflict`` if it has changed since."""
    meta = lease.metadata
    finalizers = [each for each in meta.finalizers if each != LEASE_FINALIZER]
    if finalizers == meta.finalizers:
        return
    patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}}
    await gateway.merge_patch(GPU_LEASES, meta.name, patch, namespace=meta.namespace)
