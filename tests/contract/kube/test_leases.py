"""GPULeases as the scheduler makes and removes them."""

import pytest

from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_LEASES
from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.gpu_leases import Client, GpuLease, lease_name
from tessera.model.ledger import Ledger
from tessera.model.quantities import GIB
from tessera.scheduler.lease_writer import LeaseWriter
from tessera.scheduler.leases import Leases


def promised(namespace: str, container: str) -> GpuLease:
    uid = "7a5c0d3e-2f3f-4e54-9d7a-0f5f6c1f0001"
    client = Client("web", uid, container, "c")
    return GpuLease(namespace, lease_name("web", uid, container), "", client, "g", Share("GPU-g-0", 4 * GIB, 30), "d")


async def test_leases_are_made_as_promised_and_removed_whole(gateway: Gateway, namespace: str) -> None:
    leases = Leases(Ledger())
    writer = LeaseWriter(gateway, leases, lambda: 0.0)
    wanted = [promised(namespace, container) for container in ("main", "side")]
    await writer.make(wanted)
    stored = await gateway.list(GPU_LEASES, namespace=namespace)
    assert sorted(each.metadata.name for each in stored) == sorted(lease.name for lease in wanted)
    assert all(each.metadata.finalizers == [names.LEASE_FINALIZER] for each in stored)
    known = {lease.hold: lease for lease in leases.all()}
    assert {hold: (lease.share, lease.client, lease.domain) for hold, lease in known.items()} == {
        lease.hold: (lease.share, lease.client, lease.domain) for lease in wanted
    }
    assert {lease.uid for lease in known.values()} == {each.metadata.uid for each in stored}
    with pytest.raises(ApiError) as refused:
        await writer.make(wanted[:1])
    assert refused.value.already_exists
    await writer.remove(wanted)
    assert await gateway.list(GPU_LEASES, namespace=namespace) == [] and not list(leases.all())
    await writer.remove(wanted)


async def test_a_lease_that_is_going_already_is_let_go(gateway: Gateway, namespace: str) -> None:
    leases = Leases(Ledger())
    writer = LeaseWriter(gateway, leases, lambda: 0.0)
    lease = promised(namespace, "main")
    await writer.make([lease])
    await gateway.delete(GPU_LEASES, lease.name, namespace=namespace)
    found = await gateway.get(GPU_LEASES, lease.name, namespace=namespace)
    assert found.metadata.deletion_timestamp, "its finalizer holds it"
    await writer.remove([lease])
    assert await gateway.list(GPU_LEASES, namespace=namespace) == []
