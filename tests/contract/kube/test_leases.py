"""GPULeases as the scheduler makes and removes them."""

import pytest
from msgspec.structs import replace

from tessera.kube import wire
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.lease_verbs import ask_size, find_lease
from tessera.kube.resources import GPU_LEASES
from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.gpu_leases import Client, GpuLease, lease_name
from tessera.model.ledger import Ledger
from tessera.model.quantities import GIB
from tessera.model.resizes import Resize
from tessera.reasons import Reason
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


async def test_a_size_is_asked_of_that_very_lease_and_changes_nothing_else(gateway: Gateway, namespace: str) -> None:
    lease = promised(namespace, "main")
    await LeaseWriter(gateway, Leases(Ledger()), lambda: 0.0).make([lease])
    found = await gateway.get(GPU_LEASES, lease.name, namespace=namespace)
    for asked, wanted in (
        (Resize(8 * GIB), (8 * GIB, 30)),
        (Resize(8 * GIB, 0), (8 * GIB, 0)),
        (Resize(2 * GIB), (2 * GIB, 0)),
    ):
        written = await ask_size(gateway, await gateway.get(GPU_LEASES, lease.name, namespace=namespace), asked)
        assert isinstance(written, wire.GpuLease) and written.spec.wanted
        assert (written.spec.wanted.memory_bytes, written.spec.wanted.core_percent) == wanted
        assert replace(written.spec, wanted=None) == found.spec and written.status == found.status
    former = replace(found, metadata=replace(found.metadata, uid="7a5c0d3e-2f3f-4e54-9d7a-0f5f6c1f0002"))
    gone = await ask_size(gateway, former, Resize(GIB))
    assert isinstance(gone, Reason) and "found 'one that is gone by now'" in gone.text
    await gateway.delete(GPU_LEASES, lease.name, namespace=namespace)
    going = await gateway.get(GPU_LEASES, lease.name, namespace=namespace)
    assert isinstance(await ask_size(gateway, going, Resize(GIB)), Reason)
    last = (await gateway.get(GPU_LEASES, lease.name, namespace=namespace)).spec.wanted
    assert last and last.memory_bytes == 2 * GIB


async def test_a_pods_name_finds_its_one_lease(gateway: Gateway, namespace: str) -> None:
    writer = LeaseWriter(gateway, Leases(Ledger()), lambda: 0.0)
    main, side = promised(namespace, "main"), promised(namespace, "side")
    assert isinstance(await find_lease(gateway, namespace, "web"), Reason)
    await writer.make([main])
    for name in ("web", main.name):
        found = await find_lease(gateway, namespace, name)
        assert isinstance(found, wire.GpuLease) and found.metadata.name == main.name
    await writer.make([side])
    several = await find_lease(gateway, namespace, "web")
    assert isinstance(several, Reason) and main.name in several.text and side.name in several.text
    await gateway.delete(GPU_LEASES, main.name, namespace=namespace)
    left = await find_lease(gateway, namespace, "web")
    assert isinstance(left, wire.GpuLease) and left.metadata.name == side.name
