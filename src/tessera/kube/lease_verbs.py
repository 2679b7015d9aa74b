"""What users ask of a GPULease: that it be made, used by a pod or by none, stopped or started, of another size, or
gone. With whose rights is the gateway's."""

from collections.abc import Mapping
from typing import Any

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.lease_use import part
from tessera.kube.resources import GPU_LEASES, PODS
from tessera.model import names
from tessera.model.demands import demand_of
from tessera.model.gpu_leases import Phase, Size
from tessera.model.placements import Remote
from tessera.model.resizes import Resize
from tessera.reasons import Reason, invalid

_ENDED = ("Succeeded", "Failed")
_TRIES = 5
"""Of a write that may meet others of the system: status and conditions change while a lease or a pod waits."""


async def ask_new(
    gateway: Gateway, namespace: str, name: str, size: Size, annotations: Mapping[str, str]
) -> wire.GpuLease:
    """Makes a standing lease, which the pool then finds room for and serves. ``annotations`` say of its slice what a
    pod's would. Raises ``KubeError``."""
    spec = wire.GpuLeaseSpec(
        standing=True, wanted=wire.LeaseSize(memory_bytes=size.mem_bytes, core_percent=size.core_percent)
    )
    metadata = wire.ObjectMeta(name=name, namespace=namespace, annotations=dict(annotations))
    return await gateway.create(GPU_LEASES, wire.GpuLease(metadata=metadata, spec=spec))


async def ask_size(gateway: Gateway, found: wire.GpuLease, resize: Resize) -> wire.GpuLease | Reason:
    """Writes the size that is wanted of that very lease, and nothing else; the lease as it is then.

    What ``resize`` leaves open stays as it was last asked for, or as it is. To ask again for the same is no error.
    """
    kept = found.spec.wanted or found.spec.slice or wire.LeaseSize()
    size = resize.from_size(Size(kept.memory_bytes, kept.core_percent))
    return await _ask(gateway, found, {"wanted": _wanted(size)})


async def ask_stopped(gateway: Gateway, found: wire.GpuLease, *, stopped: bool) -> wire.GpuLease | Reason:
    """Asks that a standing lease give its room back, or have room again; the lease as it is then."""
    if why := _not_standing(found):
        return why
    if stopped and found.spec.client:
        return invalid(f"GPULease {_key(found)}", f"one used by pod {found.spec.client.pod}", "one that no pod uses")
    return await _ask(gateway, found, {"stopped": stopped or None})


async def ask_no_user(gateway: Gateway, found: wire.GpuLease) -> wire.GpuLease | Reason:
    """Takes the pod that it had when it was ``found`` off a standing lease, and its sessions end; the lease as it is
    then. One without that pod stays as it is. Raises ``KubeError``."""
    if why := _not_standing(found):
        return why
    seen, client = found, found.spec.client
    for left in reversed(range(_TRIES)):
        if client is None or seen.spec.client != client:
            return seen
        try:
            return await part(gateway, seen.metadata)
        except ApiError as error:
            if not error.conflict or not left:
                raise
        again = await gateway.find(GPU_LEASES, found.metadata.name, namespace=found.metadata.namespace)
        if again is None or again.metadata.uid != found.metadata.uid:
            return _gone(found)
        seen = again
    raise AssertionError("the last try answers or raises")


async def ask_user(gateway: Gateway, found: wire.GpuLease, pod_name: str) -> wire.Pod | Reason:
    """Tells a pod that waits to be placed to use a standing lease; the pod as it is then. Raises ``KubeError``."""
    if why := _not_standing(found) or _not_there(found):
        return why
    for left in reversed(range(_TRIES)):
        pod = await gateway.get(PODS, pod_name, namespace=found.metadata.namespace)
        if why := _cannot_use(pod):
            return why
        try:
            return await gateway.merge_patch(PODS, pod_name, _told(pod, found), namespace=found.metadata.namespace)
        except ApiError as error:
            if not error.conflict or not left:
                raise
    raise AssertionError("the last try answers or raises")


async def ask_end(gateway: Gateway, found: wire.GpuLease) -> None:
    """Asks for the end of that very lease; the pool then ends its executor."""
    meta = found.metadata
    await gateway.delete(GPU_LEASES, meta.name, namespace=meta.namespace, uid=meta.uid)


async def find_lease(gateway: Gateway, namespace: str, name: str) -> wire.GpuLease | Reason:
    """The lease of that name, or else the one lease of the pod of that name."""
    if (found := await gateway.find(GPU_LEASES, name, namespace=namespace)) is not None:
        return found
    leases = await gateway.list(GPU_LEASES, namespace=namespace)
    mine = {
        each.metadata.name: (each, each.spec.client.container)
        for each in leases
        if each.spec.client and each.spec.client.pod == name and not _ends(each)
    }
    if len(mine) == 1:
        return next(lease for lease, _ in mine.values())
    if not mine:
        return invalid("LEASE", name, f"a GPULease of namespace {namespace}, or a pod there that has one")
    each = ", ".join(f"{name} (container {container})" for name, (_, container) in mine.items())
    return invalid("LEASE", name, f"one of this pod's, {each}")


async def _ask(gateway: Gateway, found: wire.GpuLease, spec: Mapping[str, Any]) -> wire.GpuLease | Reason:
    """Writes ``spec`` of that very lease, and nothing else."""
    if why := _not_there(found):
        return why
    meta = found.metadata
    try:
        patch = {"metadata": {"uid": meta.uid}, "spec": spec}
        return await gateway.merge_patch(GPU_LEASES, meta.name, patch, namespace=meta.namespace)
    except ApiError as error:
        if (error.conflict or error.invalid) and not await _is_there(gateway, found):
            return _gone(found)
        raise


async def _is_there(gateway: Gateway, lease: wire.GpuLease) -> bool:
    """Another UID in a patch is refused as a field that never changes, which says little."""
    meta = lease.metadata
    found = await gateway.find(GPU_LEASES, meta.name, namespace=meta.namespace)
    return found is not None and found.metadata.uid == meta.uid


def _not_standing(lease: wire.GpuLease) -> Reason | None:
    if lease.spec.standing:
        return None
    pod = lease.spec.client.pod if lease.spec.client else ""
    return invalid(f"GPULease {_key(lease)}", f"one made for pod {pod}", "a standing one, which users make")


def _not_there(lease: wire.GpuLease) -> Reason | None:
    return invalid(f"GPULease {_key(lease)}", "one that ends", "one that stays") if _ends(lease) else None


def _gone(lease: wire.GpuLease) -> Reason:
    return invalid(f"GPULease {_key(lease)}", "one that is gone by now", "one that stays")


def _told(pod: wire.Pod, lease: wire.GpuLease) -> dict[str, Any]:
    """The patch by which ``pod``, as it was just read, names ``lease`` and waits for that no more."""
    meta = pod.metadata
    told = {"uid": meta.uid, "resourceVersion": meta.resource_version}
    patch: dict[str, Any] = {"metadata": told | {"annotations": {names.GPU_LEASE: lease.metadata.name}}}
    gates = [gate.name for gate in pod.spec.scheduling_gates]
    if names.GPU_LEASE in gates:
        left = [{"name": name} for name in gates if name != names.GPU_LEASE]
        patch["spec"] = {"schedulingGates": left or None}
    return patch


def _cannot_use(pod: wire.Pod) -> Reason | None:
    """Why ``pod`` can be told of no lease any more, or never could."""
    where = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    if pod.metadata.deletion_timestamp is not None or pod.status.phase in _ENDED:
        return invalid(where, "one that ends", "one that waits to be placed")
    if pod.spec.node_name:
        return invalid(where, f"it on node {pod.spec.node_name}", "one that waits to be placed")
    remote = pod.metadata.annotations.get(names.REMOTE, "")
    if remote != Remote.REQUIRED:
        allowed = f"{Remote.REQUIRED}, by which it is made able to use one"
        return invalid(f"{where}: metadata.annotations[{names.REMOTE}]", remote, allowed)
    return _no_slice(pod, where)


def _no_slice(pod: wire.Pod, where: str) -> Reason | None:
    """Why ``pod`` asks for nothing that a lease could be."""
    demand = demand_of(pod_of(pod))
    if isinstance(demand, Reason):
        return demand
    allowed = f"one that asks for a slice, such as {names.GPU_MEM}: 4Gi"
    if demand is None:
        return invalid(f"{where}: spec.containers", "none that asks for a slice", allowed)
    asking = [each.container for each in demand.containers]
    return invalid(f"{where}: spec.containers", ", ".join(asking), allowed) if len(asking) > 1 else None


def _wanted(size: Size) -> dict[str, int]:
    return {"memoryBytes": size.mem_bytes, "corePercent": size.core_percent}


def _ends(lease: wire.GpuLease) -> bool:
    return lease.metadata.deletion_timestamp is not None or lease.status.phase == Phase.RELEASED


def _key(lease: wire.GpuLease) -> str:
    return f"{lease.metadata.namespace}/{lease.metadata.name}"
