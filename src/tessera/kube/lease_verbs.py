"""What users ask of a GPULease: another size, or its end. With whose rights is the gateway's."""

from tessera.kube import wire
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import Phase, Size
from tessera.model.resizes import Resize
from tessera.reasons import Reason, invalid


async def ask_size(gateway: Gateway, found: wire.GpuLease, resize: Resize) -> wire.GpuLease | Reason:
    """Writes the size that is wanted of that very lease, and nothing else; the lease as it is then.

    What ``resize`` leaves open stays as it was last asked for, or as it is. To ask again for the same is no error.
    """
    if _ends(found):
        return invalid(f"GPULease {_key(found)}", "one that ends", "one that stays")
    kept = found.spec.wanted or found.spec.slice
    size = resize.from_size(Size(kept.memory_bytes, kept.core_percent))
    wanted = {"memoryBytes": size.mem_bytes, "corePercent": size.core_percent}
    patch = {"metadata": {"uid": found.metadata.uid}, "spec": {"wanted": wanted}}
    meta = found.metadata
    try:
        return await gateway.merge_patch(GPU_LEASES, meta.name, patch, namespace=meta.namespace)
    except ApiError as error:
        if (error.conflict or error.invalid) and not await _is_there(gateway, found):
            return invalid(f"GPULease {_key(found)}", "one that is gone by now", "one that stays")
        raise


async def ask_end(gateway: Gateway, found: wire.GpuLease) -> None:
    """Asks for the end of that very lease; the pool then ends its executor."""
    meta = found.metadata
    await gateway.delete(GPU_LEASES, meta.name, namespace=meta.namespace, uid=meta.uid)


async def find_lease(gateway: Gateway, namespace: str, name: str) -> wire.GpuLease | Reason:
    """The lease of that name, or else the one lease of the pod of that name."""
    if (found := await gateway.find(GPU_LEASES, name, namespace=namespace)) is not None:
        return found
    leases = await gateway.list(GPU_LEASES, namespace=namespace)
    mine = [each for each in leases if each.spec.client.pod == name and not _ends(each)]
    if len(mine) == 1:
        return mine[0]
    if not mine:
        return invalid("LEASE", name, f"a GPULease of namespace {namespace}, or a pod there that has one")
    each = ", ".join(f"{lease.metadata.name} (container {lease.spec.client.container})" for lease in mine)
    return invalid("LEASE", name, f"one of this pod's, {each}")


async def _is_there(gateway: Gateway, lease: wire.GpuLease) -> bool:
    """Another UID in a patch is refused as a field that never changes, which says little."""
    meta = lease.metadata
    found = await gateway.find(GPU_LEASES, meta.name, namespace=meta.namespace)
    return found is not None and found.metadata.uid == meta.uid


def _ends(lease: wire.GpuLease) -> bool:
    return lease.metadata.deletion_timestamp is not None or lease.status.phase == Phase.RELEASED


def _key(lease: wire.GpuLease) -> str:
    return f"{lease.metadata.namespace}/{lease.metadata.name}"
