"""The pool's finalizer on a GPULease, by which the API server keeps it until its executor is gone."""

from tessera.kube import wire
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.names import LEASE_FINALIZER


async def hold(gateway: Gateway, lease: wire.GpuLease) -> None:
    """Puts it on ``lease`` as it was just read. Raises as ``Gateway.merge_patch`` does, ``conflict`` if it has changed
    since; on one that is being deleted the API server puts none."""
    finalizers = lease.metadata.finalizers
    await _write(gateway, lease, [*finalizers, *({LEASE_FINALIZER} - {*finalizers})])


async def let_go(gateway: Gateway, lease: wire.GpuLease) -> None:
    """Takes it off, likewise."""
    await _write(gateway, lease, [each for each in lease.metadata.finalizers if each != LEASE_FINALIZER])


async def _write(gateway: Gateway, lease: wire.GpuLease, finalizers: list[str]) -> None:
    meta = lease.metadata
    if finalizers == meta.finalizers:
        return
    patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}}
    await gateway.merge_patch(GPU_LEASES, meta.name, patch, namespace=meta.namespace)
